package natsipc

import (
	"context"
	"errors"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// serve starts the member's server, and answers those who ask for the leader.
func (m *Member) serve(ctx context.Context) (err error) {
	opts := []ipc.ServerOption{WithPrefix(m.subjects.members), ipc.WithLogger(m.cfg.Logger),
		newOption(func(s *settings) { // members are instances of one micro service
			s.service = m.cfg.Group
			s.about = "member " + m.cfg.Member + " of the ipcgen group " + m.cfg.Group
		})}
	opts = append(opts, m.cfg.Options...)
	for _, s := range m.services {
		opts = append(opts, s)
	}
	opts = append(opts, ipc.WithFence(m), ipc.WithServerInterceptor(m.intercept))
	if m.server, err = Serve(ctx, m.nc, m.channel, opts...); err != nil {
		return err
	}
	if m.asked, err = m.answerQuestions(); err != nil {
		return errors.Join(err, m.server.Close())
	}
	return nil
}

// Close ends the member: a leader answers the calls that it has taken, until ctx ends, and then
// gives up its lease, so that the next leader need not wait for its end. Close blocks until the
// member's goroutines have ended, and returns an error if calls were cut off, or the member had
// ended by itself. It may be called again.
func (m *Member) Close(ctx context.Context) error {
	var err error
	m.closing.Do(func() {
		err = m.server.Shutdown(ctx)
		m.stop(errMemberClosed)
		m.tasks.Wait()
		if m.nc.IsConnected() {
			err = errors.Join(err, m.asked.Unsubscribe())
		}
	})
	<-m.done
	return errors.Join(err, m.err)
}
