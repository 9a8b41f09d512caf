package gogen

import "testing"

// The conversions are flatc's; the cases were taken from its output.
func TestFieldNamesAreFlatcs(t *testing.T) {
	for name, want := range map[string]string{
		"seq": "Seq", "sample_rate": "SampleRate", "HTTPServer": "Httpserver", "a1B2c3": "A1B2c3",
		"with_1_digit": "With1Digit", "double__under": "Double_under", "trailing_": "Trailing_",
		"_lead":             "_Lead",
		"testhashu32_fnv1a": "Testhashu32Fnv1a", "fooBar": "FooBar", "UPPER_CASE": "UpperCase",
		"x": "X", "__two": "_Two",
	} {
		if got := upperCamel(name); got != want {
			t.Errorf("%s became %s, not %s", name, got, want)
		}
	}
}

func TestMethodNamesAreExported(t *testing.T) {
	for name, want := range map[string]string{
		"SetParam": "SetParam", "getParam": "GetParam", "get_http_id": "GetHttpId",
		"GetHTTPServer":           "GetHTTPServer",
		"MyGame_Example2_Monster": "MyGameExample2Monster", "_": "X_", "_1": "X_1",
	} {
		if got := exported(name); got != want {
			t.Errorf("%s became %s, not %s", name, got, want)
		}
	}
}
