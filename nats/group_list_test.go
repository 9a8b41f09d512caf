package natsipc_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"runtime"
	"slices"
	"sync"

	flatbuffers "github.com/google/flatbuffers/go"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// This file is the service of the tests of groups: a list of numbers.

type words []uint64

func encodeWords(b *flatbuffers.Builder, _ uint64, w *words) error {
	var data []byte
	for _, x := range *w {
		data = binary.LittleEndian.AppendUint64(data, x)
	}
	b.Finish(b.CreateByteVector(data))
	return nil
}

func decodeWords(buf []byte, w *words) (uint64, error) {
	if len(buf) < 8 {
		return 0, errors.New("malformed words")
	}
	at := binary.LittleEndian.Uint32(buf)
	if uint64(at)+4 > uint64(len(buf)) {
		return 0, errors.New("malformed words")
	}
	n := binary.LittleEndian.Uint32(buf[at:])
	data := buf[at+4:]
	if uint64(n) > uint64(len(data)) || n%8 != 0 {
		return 0, errors.New("malformed words")
	}
	*w = (*w)[:0]
	for data = data[:n]; len(data) > 0; data = data[8:] {
		*w = append(*w, binary.LittleEndian.Uint64(data))
	}
	return 0, nil
}

var listProtocol = newProtocol("test.List")

func newProtocol(name string) *ipc.Protocol {
	schema := "service " + name + "\nmethod Append test.Words test.Words\n"
	sum := sha256.Sum256([]byte(schema))
	return &ipc.Protocol{Name: name, Schema: schema, Fingerprint: binary.BigEndian.Uint64(sum[:8])}
}

func listMethod(name string, readOnly, idempotent bool) *ipc.Method[words, words] {
	id := fnv.New32a()
	id.Write([]byte("test.List/" + name))
	return ipc.NewMethod(listProtocol, ipc.MethodSpec[words, words]{
		Name: name, ID: id.Sum32(), ReadOnly: readOnly, Idempotent: idempotent,
		EncodeRequest: encodeWords, DecodeRequest: decodeWords,
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, w *words) error {
			return encodeWords(b, 0, w)
		},
		DecodeReply: decodeWords,
	})
}

var (
	methodAppend = listMethod("Append", false, false) // number -> length of the list with it
	methodRepeat = listMethod("Repeat", false, true)  // as Append, and idempotent by its schema
	methodLast   = listMethod("Last", true, false)    // -> length of the list, its last number
	methodAll    = listMethod("All", true, false)     // -> the list
	methodPart   = listMethod("Part", true, false)    // from, to -> part of the list
	methodRefuse = listMethod("Refuse", false, false) // appends and -> an error
	methodPanic  = listMethod("Panic", false, false)
	methodExit   = listMethod("Exit", false, false) // ends its goroutine
)

// A list is the state.
type list struct {
	mu      sync.Mutex
	all     words
	ballast int // bytes before each snapshot
	entered func()
}

func (l *list) Snapshot() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := binary.LittleEndian.AppendUint32(nil, uint32(l.ballast))
	b = append(b, make([]byte, l.ballast)...)
	for _, x := range l.all {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b, nil
}

func (l *list) Restore(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(b) < 4 || len(b) < 4+int(binary.LittleEndian.Uint32(b)) {
		return errors.New("malformed snapshot")
	}
	l.all = nil
	for b = b[4+binary.LittleEndian.Uint32(b):]; len(b) > 0; b = b[8:] {
		l.all = append(l.all, binary.LittleEndian.Uint64(b))
	}
	return nil
}

// longWords is a change that appends n, and has some bytes.
func longWords(n uint64, bytes int) words { return slices.Repeat(words{n}, bytes/8) }

func (l *list) append(_ context.Context, w *words) (*words, error) {
	if l.entered != nil {
		l.entered()
	}
	for _, x := range *w {
		if x != (*w)[0] {
			panic("a change that is not what was sent")
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, (*w)[0])
	return &words{uint64(len(l.all))}, nil
}

func (l *list) last(context.Context, *words) (*words, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return &words{0, 0}, nil
	}
	return &words{uint64(len(l.all)), l.all[len(l.all)-1]}, nil
}

func (l *list) every(context.Context, *words) (*words, error) {
	w := l.copy()
	return &w, nil
}

func (l *list) part(_ context.Context, w *words) (*words, error) {
	all := l.copy()
	from, to := min((*w)[0], uint64(len(all))), min((*w)[1], uint64(len(all)))
	part := all[from:to]
	return &part, nil
}

func (l *list) copy() words {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

func (l *list) service() *ipc.Service {
	return ipc.NewService(listProtocol, ipc.Handle(methodAppend, l.append),
		ipc.Handle(methodRepeat, l.append), ipc.Handle(methodLast, l.last),
		ipc.Handle(methodAll, l.every), ipc.Handle(methodPart, l.part),
		ipc.Handle(methodRefuse, func(ctx context.Context, w *words) (*words, error) {
			_, _ = l.append(ctx, w)
			return nil, ipc.Errorf(ipc.CodeNotFound, "refused")
		}),
		ipc.Handle(methodPanic, func(ctx context.Context, w *words) (*words, error) {
			_, _ = l.append(ctx, w)
			panic("on purpose")
		}),
		ipc.Handle(methodExit, func(ctx context.Context, w *words) (*words, error) {
			_, _ = l.append(ctx, w)
			runtime.Goexit()
			return nil, nil
		}))
}
