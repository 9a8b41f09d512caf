package ipc_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/ipcgen/ipcgen/internal/longvec"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// An owner carries to a Handler what it says that it owns, and changes it afterwards all the same.
type owner struct {
	*ipc.Handler
	owned bool
}

func (c *owner) Handle(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
	request := *in
	request.Body, request.Owned = bytes.Clone(in.Body), c.owned
	out, err := c.Handler.Handle(ctx, &request)
	overwrite(request.Body)
	out.Owned = c.owned
	return out, err
}

// overwrite changes all vectors of a message.
func overwrite(body []byte) {
	for i := range body {
		body[i] = 'x'
	}
}

// TestOwnedBodies has requests whose memory a carrier owns, and others. What is decoded keeps the
// memory of long ones that are owned, and no other.
func TestOwnedBodies(t *testing.T) {
	const short, long = longvec.Least - 1, longvec.Least
	for _, c := range []struct {
		name         string
		owned, keeps bool
		length       int
	}{
		{"not owned", false, false, long}, {"owned", true, true, long},
		{"short", true, false, short},
	} {
		t.Run(c.name, func(t *testing.T) {
			var request, message *blob
			h, err := ipc.NewHandler(echoes(
				ipc.Handle(methodEcho, func(_ context.Context, m *blob) (*blob, error) {
					request = m
					return &blob{Data: bytes.Clone(m.Data)}, nil
				}),
				ipc.Receive(messageNote, func(_ context.Context, m *blob) error {
					message = m
					return nil
				})))
			if err != nil {
				t.Fatal(err)
			}
			client, err := ipc.NewCarrierClient(&owner{h, c.owned})
			if err != nil {
				t.Fatal(err)
			}
			data := bytes.Repeat([]byte("ab"), c.length)[:c.length]
			reply, err := echo(t.Context(), client, data)
			if err != nil || !bytes.Equal(reply, data) {
				t.Errorf("%d bytes came back, %v", len(reply), err)
			}
			if err := note(t.Context(), client, string(data)); err != nil {
				t.Error(err)
			}
			for what, m := range map[string]*blob{"request": request, "message": message} {
				if kept := m.Data[0] == 'x'; kept != c.keeps {
					t.Errorf("%s: the memory was kept: %t", what, kept)
				}
			}
		})
	}
}

// An answering carrier answers with a body of its own.
type answering struct {
	body  []byte
	owned bool
}

func (c *answering) Handle(context.Context, *ipc.Inbound) (ipc.Outbound, error) {
	return ipc.Outbound{Body: c.body, Owned: c.owned}, nil
}

// TestOwnedReply is the same with a reply.
func TestOwnedReply(t *testing.T) {
	body := func() []byte {
		out, err := func() (out ipc.Outbound, err error) {
			h, err := ipc.NewHandler(echoService())
			if err != nil {
				return out, err
			}
			client, err := ipc.NewCarrierClient(keeping{h, &out})
			if err == nil {
				_, err = echo(t.Context(), client, make([]byte, longvec.Least))
			}
			return out, err
		}()
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(out.Body)
	}
	for _, owned := range []bool{false, true} {
		c := &answering{body(), owned}
		client, err := ipc.NewCarrierClient(c)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := echo(t.Context(), client, nil)
		if err != nil {
			t.Fatal(err)
		}
		overwrite(c.body)
		if kept := reply[0] == 'x'; kept != owned {
			t.Errorf("with a reply that is owned (%t), the memory was kept: %t", owned, kept)
		}
	}
}

// A keeping carrier keeps the last answer.
type keeping struct {
	*ipc.Handler
	out *ipc.Outbound
}

func (c keeping) Handle(ctx context.Context, in *ipc.Inbound) (out ipc.Outbound, err error) {
	out, err = c.Handler.Handle(ctx, in)
	*c.out = out
	return out, err
}
