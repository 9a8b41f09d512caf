package fbjson_test

import (
	"fmt"
	"os"

	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

func Example() {
	bfbs, err := os.ReadFile("testdata/monster.bfbs") // ipcgen -bfbs, or flatc -b --schema
	if err != nil {
		panic(err)
	}
	schema, err := fbjson.Load(bfbs)
	if err != nil {
		panic(err)
	}
	monster := schema.Root()
	fmt.Printf("%s, identifier %q\n", monster.Name(), monster.Identifier())
	buf, err := monster.AppendBuffer(nil, []byte(`{name: "Orc", color: Red, hp: 0x50}`), nil)
	if err != nil {
		panic(err)
	}
	text, err := monster.AppendJSON(nil, buf, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
	_, err = monster.AppendBuffer(nil, []byte(`{name: "Orc", color: Purple}`), nil)
	fmt.Println(err)
	// Output:
	// game.Monster, identifier ""
	// {"hp":80,"name":"Orc","color":"Red"}
	// 1:22: color: enum game.Color has no value "Purple"
}
