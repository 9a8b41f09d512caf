package audioservice_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/audioservice"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func TestEngineStream(t *testing.T) {
	e, ctx := audioservice.NewEngine(), t.Context()
	start := func(rate uint32, channels uint16, frames uint32) audio.Status {
		t.Helper()
		rep, err := e.StartStream(ctx,
			&audio.StartStreamT{SampleRate: rate, Channels: channels, BufferFrames: frames})
		if err != nil {
			t.Fatal(err)
		}
		return rep.Status
	}
	stop := func() audio.Status {
		t.Helper()
		rep, err := e.StopStream(ctx, &audio.StopStreamT{})
		if err != nil {
			t.Fatal(err)
		}
		return rep.Status
	}
	steps := []struct {
		name      string
		got, want audio.Status
	}{
		{"stop before the first start", stop(), audio.StatusNotRunning},
		{"start without a rate", start(0, 2, 256), audio.StatusInvalidParam},
		{"start without channels", start(48000, 0, 256), audio.StatusInvalidParam},
		{"start without frames", start(48000, 2, 0), audio.StatusInvalidParam},
		{"start with an absurd rate", start(math.MaxUint32, 2, 256), audio.StatusInvalidParam},
		{"a refused start leaves it stopped", stop(), audio.StatusNotRunning},
		{"start", start(48000, 2, 256), audio.StatusOk},
		{"restart in another format", start(96000, 8, 512), audio.StatusOk},
		{"stop", stop(), audio.StatusOk},
		{"stop twice", stop(), audio.StatusNotRunning},
	}
	for _, s := range steps {
		if s.got != s.want {
			t.Errorf("%s: status %v, want %v", s.name, s.got, s.want)
		}
	}
}

func TestEngineParameters(t *testing.T) {
	e, ctx := audioservice.NewEngine(), t.Context()
	get := func(p audio.ParamType) float32 {
		t.Helper()
		rep, err := e.GetParam(ctx, &audio.GetParamT{ParamId: p})
		if err != nil {
			t.Fatal(err)
		}
		if rep.ParamId != p {
			t.Errorf("asked for %v, got %v", p, rep.ParamId)
		}
		return rep.Value
	}
	if got := get(audio.ParamTypeGain); got != 1 {
		t.Errorf("gain starts at %v, want 1", got)
	}
	for _, c := range []struct {
		param audio.ParamType
		value float32
		want  audio.Status
	}{
		{audio.ParamTypeGain, 0.75, audio.StatusOk},
		{audio.ParamTypeGain, -0.1, audio.StatusInvalidParam},
		{audio.ParamTypeGain, float32(math.NaN()), audio.StatusInvalidParam},
		{audio.ParamTypeGain, float32(math.Inf(1)), audio.StatusInvalidParam},
		{audio.ParamTypePan, -1, audio.StatusOk},
		{audio.ParamTypeFilterCutoff, 440, audio.StatusOk},
		{audio.ParamTypeFilterResonance, 0, audio.StatusInvalidParam},
		{audio.ParamType(4), 1, audio.StatusInvalidParam},
		{audio.ParamType(255), 1, audio.StatusInvalidParam},
	} {
		rep, err := e.SetParam(ctx, &audio.SetParamT{ParamId: c.param, Value: c.value})
		if err != nil || rep.Status != c.want {
			t.Errorf("SetParam(%v, %v): status %v, error %v; want %v", c.param, c.value,
				rep, err, c.want)
		}
	}
	for p, want := range map[audio.ParamType]float32{
		audio.ParamTypeGain: 0.75, audio.ParamTypePan: -1, audio.ParamTypeFilterCutoff: 440,
		audio.ParamTypeFilterResonance: 0.7,
	} {
		if got := get(p); got != want {
			t.Errorf("%v is %v, want %v", p, got, want)
		}
	}
	if _, err := e.GetParam(ctx,
		&audio.GetParamT{ParamId: 9}); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
		t.Errorf("GetParam of an unknown parameter: %v, want code InvalidArgument", err)
	}
}

func TestEngineSnapshot(t *testing.T) {
	a, b, ctx := audioservice.NewEngine(), audioservice.NewEngine(), t.Context()
	a.SetParam(ctx, &audio.SetParamT{ParamId: audio.ParamTypePan, Value: -0.25})
	a.StartStream(ctx, &audio.StartStreamT{SampleRate: 44100, Channels: 1, BufferFrames: 64})
	snapshot, err := a.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if again, err := b.Snapshot(); err != nil || !bytes.Equal(again, snapshot) {
		t.Errorf("restored and taken again: % x, %v; want % x", again, err, snapshot)
	}
	if rep, err := b.GetParam(ctx, &audio.GetParamT{ParamId: audio.ParamTypePan}); err != nil ||
		rep.Value != -0.25 {
		t.Errorf("the restored pan: %v, %v", rep, err)
	}
	if rep, err := b.StopStream(ctx, &audio.StopStreamT{}); err != nil ||
		rep.Status != audio.StatusOk {
		t.Errorf("stop of the restored stream: %v, %v", rep, err)
	}
	other := bytes.Clone(snapshot)
	other[0]++
	for name, bad := range map[string][]byte{
		"empty": nil, "short": snapshot[:len(snapshot)-1], "long": append(bytes.Clone(snapshot), 0),
		"of another version": other,
	} {
		if err := a.Restore(bad); err == nil {
			t.Errorf("a snapshot that is %s was restored", name)
		}
	}
	if now, _ := a.Snapshot(); !bytes.Equal(now, snapshot) {
		t.Error("a refused snapshot changed the engine")
	}
}
