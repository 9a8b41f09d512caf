package ipc

import (
	"context"
)

// This file holds the errors for nil where a value is needed: a constructor returns no
// error, so the mistake is reported by the first operation that can, with its cure.

// NilService returns the [Service] that a generated constructor makes of a nil implementation. It
// cannot be served: Serve and Dial fail with an error that names the constructor, such as
// "audio.NewAudioControlService", and iface, the interface that is needed.
func NilService(p *Protocol, constructor, iface string) *Service {
	return &Service{protocol: p, invalid: invalid("%s was given nil; give it a value that "+
		"implements %s", constructor, iface)}
}

// refuse keeps the first reason why a server or a connection cannot be configured.
func (c *common) refuse(why *Error) {
	if c.invalid == nil {
		c.invalid = why
	}
}

// nilOption returns the error for a nil option, the i-th from 0.
func nilOption(i int) *Error {
	return invalid("option %d is nil; leave it out, or look at the error of the function that "+
		"returned it", i+1)
}

// dialConfigOf applies options to the defaults.
func dialConfigOf(opts []DialOption) (dialConfig, error) {
	cfg := dialConfig{common: commonDefaults()}
	for i, o := range opts {
		if o == nil {
			cfg.refuse(nilOption(i))
			continue
		}
		o.applyDial(&cfg)
	}
	cfg.containPlugins()
	if cfg.invalid != nil {
		return cfg, cfg.invalid
	}
	return cfg, nil
}

// A nilCaller carries the calls and messages of a client that was made with nil.
type nilCaller struct{}

var errNilCaller = invalid("the client or sender was made with a nil connection; make it with " +
	"the one that Dial returned, after a look at Dial's error")

func (nilCaller) Invoke(_ context.Context, call Call) error {
	return call.Method.callFailed(errNilCaller)
}

func (nilCaller) Send(_ context.Context, post Post) error {
	return post.Message.sendFailed(errNilCaller)
}

// nilHandler returns the error for a stream that has no handler.
func nilHandler(option string, info *StreamInfo) *Error {
	if info == nil {
		return invalid("%s was given neither a stream nor a handler", option)
	}
	return invalid("%s was given a nil handler for streams of %s; give it a function", option,
		info.Protocol.Name)
}
