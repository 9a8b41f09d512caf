package contest

import (
	"encoding/binary"
	"io"
	"net"
	"time"

	"github.com/cloudwego/shmipc-go"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
)

// shmipcSilent is the level at which the library logs nothing, a constant that it does not export.
const shmipcSilent = 5

// shmIPC is shmipc-go of CloudWeGo: messages lie in shared memory, and a socket wakes the other
// side.
func shmIPC() *Contestant {
	shmipc.SetLogLevel(shmipcSilent)
	return &Contestant{
		Key: "shmipc", Name: "shmipc-go v0.2.0", Many: true,
		Note: "bytes behind a length on a stream of a session, with the default sizes",
		Serve: func(s peer.Setup) error {
			l, err := net.Listen("unix", socketIn(s.Dir))
			if err != nil {
				return err
			}
			go acceptAll(l, serveShmIPC)
			return nil
		},
		Open:       func(s peer.Setup) (Session, error) { return dialShmIPC(s) },
		OpenStream: func(s peer.Setup) (Stream, error) { return dialShmIPC(s) },
	}
}

// serveShmIPC answers on every stream of a session, until the client closes it.
func serveShmIPC(c net.Conn) {
	defer c.Close()
	conf := shmipc.DefaultConfig()
	conf.LogOutput = io.Discard
	session, err := shmipc.Server(c, conf)
	if err != nil {
		return
	}
	defer session.Close()
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return
		}
		go answerShmIPC(stream)
	}
}

// answerShmIPC reads messages where they lie and answers those that want it.
func answerShmIPC(s *shmipc.Stream) {
	defer s.Close()
	reply := make([]byte, ReplySize)
	for {
		prefix, err := s.BufferReader().ReadBytes(prefixLen)
		if err != nil {
			return
		}
		head := binary.NativeEndian.Uint64(prefix)
		if _, err := s.BufferReader().ReadBytes(int(uint32(head))); err != nil {
			return
		}
		s.BufferReader().ReleasePreviousRead()
		if head&wantReply == 0 {
			continue
		}
		if _, err := s.BufferWriter().WriteBytes(reply); err != nil {
			return
		}
		if err := s.Flush(false); err != nil {
			return
		}
	}
}

type shmSession struct {
	manager *shmipc.SessionManager
	stream  *shmipc.Stream
	msg     []byte
}

func dialShmIPC(s peer.Setup) (*shmSession, error) {
	conf := shmipc.DefaultSessionManagerConfig()
	conf.Network, conf.Address = "unix", socketIn(s.Dir)
	conf.MemMapType = shmipc.MemMapTypeMemFd
	conf.SessionNum = 1
	conf.InitializeTimeout = 10 * time.Second
	conf.LogOutput = io.Discard
	manager, err := shmipc.NewSessionManager(conf)
	if err != nil {
		return nil, err
	}
	stream, err := manager.GetStream()
	if err != nil {
		manager.Close()
		return nil, err
	}
	return &shmSession{manager: manager, stream: stream, msg: make([]byte, s.Size)}, nil
}

func (s *shmSession) write(head uint64) error {
	binary.NativeEndian.PutUint64(s.msg, head|uint64(len(s.msg)-prefixLen))
	if _, err := s.stream.BufferWriter().WriteBytes(s.msg); err != nil {
		return err
	}
	return s.stream.Flush(false)
}

func (s *shmSession) Call() error {
	if err := s.write(wantReply); err != nil {
		return err
	}
	if _, err := s.stream.BufferReader().ReadBytes(ReplySize); err != nil {
		return err
	}
	s.stream.BufferReader().ReleasePreviousRead()
	return nil
}

func (s *shmSession) Send() error { return s.write(0) }

// Drain relies on the order of a stream's messages.
func (s *shmSession) Drain() error { return s.Call() }

func (s *shmSession) Close() error {
	s.stream.Close()
	return s.manager.Close()
}
