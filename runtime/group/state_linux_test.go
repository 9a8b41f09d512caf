package group_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	flatbuffers "github.com/google/flatbuffers/go"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// The service of the replication tests keeps a list of numbers. Its clients append each number
// once, so the numbers in the list, their order and their counts reveal every error. Its calls are
// declared as generated code would, with words as messages.

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
	t := flatbuffers.GetUOffsetT(buf)
	data := buf[t+4:]
	for *w = nil; len(data) >= 8; data = data[8:] {
		*w = append(*w, binary.LittleEndian.Uint64(data))
	}
	return 0, nil
}

var listProtocol = &ipc.Protocol{Name: "test.List", Fingerprint: 1,
	Schema: "service test.List\nmethod Kill test.Words test.Words\n"}

func listMethod(name string, readOnly bool) *ipc.Method[words, words] {
	return declare(name, readOnly, false)
}

func idempotentMethod(name string) *ipc.Method[words, words] { return declare(name, false, true) }

func declare(name string, readOnly, idempotent bool) *ipc.Method[words, words] {
	return ipc.NewMethod(listProtocol, listSpec(name, readOnly, idempotent))
}

func listSpec(name string, readOnly, idempotent bool) ipc.MethodSpec[words, words] {
	id := fnv.New32a()
	id.Write([]byte("test.List/" + name))
	return ipc.MethodSpec[words, words]{
		Name: name, ID: id.Sum32(), ReadOnly: readOnly, Idempotent: idempotent,
		EncodeRequest: encodeWords, DecodeRequest: decodeWords,
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, w *words) error {
			return encodeWords(b, 0, w)
		},
		DecodeReply: decodeWords,
	}
}

var (
	methodAppend = listMethod("Append", false) // number -> length of the list with it
	methodLast   = listMethod("Last", true)    // -> length of the list, its last number
	methodAll    = listMethod("All", true)     // -> the list
	// -> the pid, so that the answers of replicas differ; pid -> ends the goroutine in that process
	methodStray  = listMethod("Stray", false)
	methodRefuse = listMethod("Refuse", false) // -> an error
	methodPanic  = listMethod("Panic", false)
	methodExit   = listMethod("Exit", false)  // ends its goroutine
	methodStall  = listMethod("Stall", false) // number, milliseconds -> as Append, after that long
	// number, milliseconds -> as Append, after the test has let it pass, and that long
	methodPause = listMethod("Pause", false)
	methodLook  = listMethod("Look", true) // number -> it, after the test has let it pass
	methodKill  = idempotentMethod("Kill") // ends its process, as the number says; see kill
	// methodKillOnce does the same, and is not idempotent.
	methodKillOnce = listMethod("KillOnce", false)
)

// A list is the service's state.
type list struct {
	mu      sync.Mutex
	all     words
	ballast []byte // the end of every snapshot must be equal to it
}

func (l *list) Snapshot() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []byte
	for _, x := range l.all {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return append(b, l.ballast...), nil
}

func (l *list) Restore(b []byte) error {
	if gate := os.Getenv(gateVar); gate != "" {
		if err := waitAtGate(gate); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	numbers := len(b) - len(l.ballast)
	if numbers < 0 || !bytes.Equal(b[numbers:], l.ballast) {
		return errors.New("the snapshot was mangled")
	}
	b = b[:numbers]
	for l.all = nil; len(b) > 0; b = b[8:] {
		l.all = append(l.all, binary.LittleEndian.Uint64(b))
	}
	return nil
}

func (l *list) append(ctx context.Context, w *words) (*words, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, (*w)[0])
	if ipc.MetadataFromContext(ctx).Len() > 0 { // not the same on all replicas
		l.all = append(l.all, 0)
	}
	err := ipc.SetReplyMetadata(ctx, "length", strconv.Itoa(len(l.all)))
	return &words{uint64(len(l.all))}, err
}

func (l *list) last(ctx context.Context, _ *words) (*words, error) {
	if trace := ipc.MetadataFromContext(ctx).Get("trace"); trace != "" {
		if err := ipc.SetReplyMetadata(ctx, "seen", trace); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return &words{0, 0}, nil
	}
	return &words{uint64(len(l.all)), l.all[len(l.all)-1]}, nil
}

func (l *list) every(context.Context, *words) (*words, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := slices.Clone(l.all)
	return &w, nil
}

func (l *list) service() *ipc.Service {
	return ipc.NewService(listProtocol,
		ipc.Handle(methodAppend, l.append),
		ipc.Handle(methodIdempotent, l.append),
		ipc.Handle(methodLast, l.last),
		ipc.Handle(methodAll, l.every),
		ipc.Handle(methodStray, func(_ context.Context, w *words) (*words, error) {
			switch {
			case len(*w) == 0:
				return &words{uint64(os.Getpid())}, nil
			case (*w)[0] == uint64(os.Getpid()):
				runtime.Goexit()
			}
			return &words{}, nil
		}),
		ipc.Handle(methodRefuse, func(ctx context.Context, w *words) (*words, error) {
			l.append(ctx, w)
			return nil, ipc.Errorf(ipc.CodeNotFound, "refused by %d", os.Getpid())
		}),
		ipc.Handle(methodPanic, func(ctx context.Context, w *words) (*words, error) {
			l.append(ctx, w)
			panic("on purpose")
		}),
		ipc.Handle(methodExit, func(ctx context.Context, w *words) (*words, error) {
			l.append(ctx, w)
			runtime.Goexit()
			return nil, nil
		}),
		ipc.Handle(methodStall, func(ctx context.Context, w *words) (*words, error) {
			time.Sleep(time.Duration((*w)[1]) * time.Millisecond)
			return l.append(ctx, w)
		}),
		ipc.Handle(methodPause, func(ctx context.Context, w *words) (*words, error) {
			if err := pauseAtBarrier(); err != nil {
				return nil, err
			}
			time.Sleep(time.Duration((*w)[1]) * time.Millisecond)
			return l.append(ctx, w)
		}),
		ipc.Handle(methodLook, func(_ context.Context, w *words) (*words, error) {
			return w, pauseAtBarrier()
		}),
		ipc.HandleServerStream(methodWatch, l.watch),
		ipc.HandleServerStream(methodPeek, peek),
		ipc.Handle(methodKill, kill), ipc.Handle(methodKillOnce, kill))
}

// sayVar makes a replica of the list write to its standard output and its standard error.
const sayVar = "GROUP_TEST_SAY"

// toldVar makes a replica of the list say when it is told to end.
const toldVar = "GROUP_TEST_TOLD"

// childList is a replica of the list, until SIGTERM.
func childList(args []string) error {
	if os.Getenv(sayVar) != "" {
		fmt.Println("replica", args[0])
		fmt.Fprintln(os.Stderr, "replica", args[0])
	}
	if os.Getenv(toldVar) != "" {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		go func() {
			<-told
			fmt.Fprintln(os.Stderr, "told", args[0])
		}()
	}
	dumpLateDrains()
	l := &list{}
	if len(args) > 1 {
		n, _ := strconv.Atoi(args[1])
		l.ballast = make([]byte, n)
		rand.NewChaCha8([32]byte{}).Read(l.ballast) // equal in every process
	}
	return group.Run(context.Background(), group.RunConfig{
		Join: group.JoinConfig{State: l, Healthy: func() bool { return !hangs.Load() },
			OnRole: func(role registry.Role, _ uint64) {
				rules.Store(role == registry.RolePrimary)
			}},
		Record: registry.Record{Control: "list_" + args[0]}}, l.service())
}

// dumpLateDrains makes this process write the stacks of its goroutines when it has been told to end
// and its grace, four fifths of five seconds, is nearly over. They say what the drain waited for.
func dumpLateDrains() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	go func() {
		<-told
		time.Sleep(3500 * time.Millisecond)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
	}()
}

func listConfig(domain string, replicas int) group.Config {
	return group.Config{
		Service: "list", Domain: domain, Replicas: replicas, Replication: &group.Replication{},
		ReadyTimeout: time.Minute,
		Command:      func(i int) *exec.Cmd { return childCommand("list", fmt.Sprint(i)) },
		Restart:      group.Restart{Delay: 1e6, MaxDelay: 1e6, Intensity: 1 << 30},
	}
}

// dialList makes a client of a group that keeps a list.
func dialList(t testing.TB, domain string) *group.Client {
	t.Helper()
	c, err := group.Dial(t.Context(), "list",
		group.DialConfig{Domain: domain, Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func appendTo(t testing.TB, c ipc.Caller, x uint64) uint64 {
	t.Helper()
	rep, err := ipc.Invoke(t.Context(), c, methodAppend, &words{x})
	if err != nil {
		t.Fatal(err)
	}
	return (*rep)[0]
}

func readAll(t testing.TB, c ipc.Caller) words {
	t.Helper()
	rep, err := ipc.Invoke(t.Context(), c, methodAll, &words{})
	if err != nil {
		t.Fatal(err)
	}
	return *rep
}
