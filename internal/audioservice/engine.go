package audioservice

import (
	"context"
	"sync"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/dsp"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// The lengths of a buffer that StartStream accepts, in frames.
const minFrames, maxFrames = 16, 65_536

// An Engine is the state of one audio service: the format of its stream,
// whether it runs, and its parameters. Parameters belong to the service, not to
// the stream, so they can be set before it starts and outlive its restarts. An
// Engine implements audio.AudioControl and is safe for concurrent use.
type Engine struct {
	mu      sync.Mutex
	stream  audio.StartStreamT
	active  bool
	values  dsp.Values
	changes uint64 // how often a parameter was set
}

// NewEngine returns a stopped engine with every parameter at its initial value.
func NewEngine() *Engine {
	return &Engine{values: dsp.InitialValues()}
}

var _ audio.AudioControl = (*Engine)(nil)

// StartStream starts the stream, or restarts it in another format. A format out
// of range is answered with InvalidParam and changes nothing.
func (e *Engine) StartStream(_ context.Context, req *audio.StartStreamT) (*audio.AckT, error) {
	if dsp.CheckFormat(int64(req.SampleRate), int(req.Channels)) != nil ||
		req.BufferFrames < minFrames || req.BufferFrames > maxFrames {
		return ack(audio.StatusInvalidParam), nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stream, e.active = *req, true
	return ack(audio.StatusOk), nil
}

// StopStream stops the stream; with none running it answers NotRunning.
func (e *Engine) StopStream(context.Context, *audio.StopStreamT) (*audio.AckT, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.active {
		return ack(audio.StatusNotRunning), nil
	}
	e.active = false
	return ack(audio.StatusOk), nil
}

// SetParam sets a parameter. An unknown one, and a value out of its range, are
// answered with InvalidParam.
func (e *Engine) SetParam(_ context.Context, req *audio.SetParamT) (*audio.AckT, error) {
	if dsp.Param(req.ParamId).Check(req.Value) != nil {
		return ack(audio.StatusInvalidParam), nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.values[req.ParamId] = req.Value
	e.changes++
	return ack(audio.StatusOk), nil
}

// GetParam answers with a parameter's value. A ParamValue has no status, so an
// unknown parameter is an error of the call, with code InvalidArgument.
func (e *Engine) GetParam(_ context.Context, req *audio.GetParamT) (*audio.ParamValueT, error) {
	if int(req.ParamId) >= dsp.NumParams {
		return nil, ipc.Errorf(ipc.CodeInvalidArgument,
			"no parameter %d: there are %d, counted from 0", req.ParamId, dsp.NumParams)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return &audio.ParamValueT{ParamId: req.ParamId, Value: e.values[req.ParamId]}, nil
}

func ack(s audio.Status) *audio.AckT { return &audio.AckT{Status: s} }
