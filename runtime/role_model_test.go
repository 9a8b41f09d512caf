package ipc_test

import "testing"

// How the reader role of a client's connection passes between its callers and whoever has the
// watch, and how the watch passes between them and the listener, as a model whose steps are
// the single accesses to shared words in conn.go and watch.go. Two callers
// wait for a reply each, the server publishes both, and in one variant the connection
// is closed meanwhile, at any moment. Every interleaving is tried: never do two goroutines
// hold the role, or wait for the doorbell, and never does everybody wait while a call is not
// completed, or a closed connection not buried. No caller has a deadline that would hide it.
//
// What the goroutines do, and what the steps are called, with at in front:
//
//	takeRole   CAS free to held                            take
//	           or CAS asleep to held, and Awake            takeAsleep, awaken
//	readFor    takes what is in the ring, and stops to look whenever it likes   read
//	await      parked.Add(1), unless the call is completed count
//	           park, or parked.Add(-1) if it is completed  park, uncount
//	sleep      CAS of the watch                            watch
//	           else takeRole, leaveRole, waits for ready   ready
//	Wait       forgets what came before                    forget
//	           look: heed                                  heed
//	           waits for the doorbell, or a poke           block
//	heed       takeRole, dispatch                          heed, heedRead
//	           parked.Add(-1) if the call is its own       mine
//	           else looks at role                          look
//	           CAS held to noted                           note
//	           then looks whether the call is completed    heeded
//	           waits for ready, if it is                   watchReady
//	endWatch   stores nil                                  endWatch
//	           looks at parked                             recheckWatch
//	           CAS of the watch, for the listener          keepWatch
//	listen     looks at parked                             listen
//	complete   CAS claimed to done                         complete
//	           or parked.Add(-1), ready                    completeParked, sendReady
//	           looks at watch, pokes                       poke
//	leaveRole  looks at down, buries                       leave
//	           looks at parked                             leaveRelied
//	           stores free                                 leaveFree
//	           looks at parked and down again              recheckRelied, recheckDown
//	           CAS free to held                            takeBack
//	           dispatches what is in the ring              drain
//	           looks at parked                             drained
//	           Sleep: stores sleep, looks at tail          sleep, sleepCheck, awake
//	           CAS held to asleep                          leaveAsleep
//	           looks at down again                         asleepDown
//	           else, noted: Awake, stores held             noted, unnote
//	fail       CAS down, takeRole, leaveRole, or closes    fail, closeWire
type roleModel struct {
	role   uint8
	parked int8
	sleep  bool // the word, as the server sees it
	woken  bool // the server has answered this sleep
	note   bool // has come since the wait for the doorbell began
	poked  bool // until a wait returns
	watch  int8 // who has it, -1: nobody
	down   bool
	buried bool
	closed bool // the wire

	published, read uint8 // replies 0 and 1, in this order
	calls           [2]call
	agents          [4]agent // two callers, the listener, and who closes
	server          uint8    // its step: it publishes, looks at sleep, and sends a note
	holder          int8     // who holds the role, -1: nobody
}

// A call is as far as its place in the table of calls says.
type call struct {
	parked, claimed, done, ready, mine bool
}

// An agent is a goroutine: its next step, and where to go on afterwards.
type agent struct {
	at            step
	taken, failed step // after takeRole
	left          step // after leaveRole
	heeded        step // after heed
	other         int8 // the call that it completes
	completed     step // and then
}

type step uint8

const (
	atEnded step = iota
	atTake
	atTakeAsleep
	atAwaken
	atRead
	atCount
	atPark
	atUncount
	atWatch
	atReady
	atForget
	atHeed
	atHeedRead
	atMine
	atLook
	atNote
	atBlock
	atWoken
	atHeeded
	atWatchReady
	atEndWatch
	atRecheckWatch
	atKeepWatch
	atListen
	atComplete
	atCompleteParked
	atSendReady
	atPoke
	atLeave
	atLeaveRelied
	atLeaveFree
	atRecheckRelied
	atRecheckDown
	atTakeBack
	atDrain
	atDrained
	atSleep
	atSleepCheck
	atAwake
	atLeaveAsleep
	atAsleepDown
	atNoted
	atUnnote
	atFail
	atCloseWire
)

// The states of the role, as in conn.go.
const (
	free uint8 = iota
	asleep
	held
	heldNoted
	over
)

// The agents behind the two callers.
const (
	listener = 2
	closer   = 3
)

// roleChecker explores a variant of the model. A mutation leaves a step out.
type roleChecker struct {
	routes bool // the client handles messages: the role is never left free
	writer bool // somebody waits for room in the ring: the watch is never given up for good
	closes bool
	skip   step
	seen   map[roleModel]bool
	wrong  string
	state  roleModel
}

func (k *roleChecker) start() roleModel {
	m := roleModel{holder: -1, watch: -1}
	for i := range 2 {
		m.agents[i] = agent{at: atTake, taken: atRead, failed: atCount}
	}
	if k.watched(&m) {
		m.watch, m.agents[listener].at = listener, atForget
	}
	if k.closes {
		m.agents[closer].at = atFail
	}
	return m
}

func (k *roleChecker) relied(m *roleModel) bool { return m.parked > 0 || k.routes }

func (k *roleChecker) watched(m *roleModel) bool { return k.relied(m) || k.writer }

// next returns the states that agent i's next step can lead to; none while it waits.
func (k *roleChecker) next(m roleModel, i int8) []roleModel {
	a := &m.agents[i]
	goTo := func(s step) []roleModel {
		m.agents[i].at = s
		if s == atEnded {
			m.agents[i] = agent{}
		}
		return []roleModel{m}
	}
	hold := func(s step) []roleModel {
		if m.holder >= 0 {
			k.wrong = "two hold the role"
		}
		m.holder = i
		if s != atAwaken {
			m.agents[i].taken, m.agents[i].failed = 0, 0
		}
		return goTo(s)
	}
	completed := func() []roleModel {
		then := m.agents[i].completed
		m.agents[i].other, m.agents[i].completed = 0, 0
		return goTo(then)
	}
	// receive takes the next reply from the ring. own is true if it is this agent's.
	receive := func(then step) (own bool) {
		r := int8(m.read)
		m.read++
		if m.calls[r].claimed {
			k.wrong = "a call was claimed twice"
		}
		m.calls[r].claimed = true
		if r == i {
			return true
		}
		m.agents[i].other, m.agents[i].completed, m.agents[i].at = r, then, atComplete
		return false
	}
	if a.at == k.skip {
		switch a.at {
		case atRecheckRelied, atRecheckDown, atAsleepDown:
			return goTo(a.left)
		case atNote:
			return goTo(atHeeded)
		case atRecheckWatch:
			return goTo(a.left)
		case atPoke:
			return completed()
		case atHeed:
			if a.heeded == atBlock {
				return goTo(atBlock)
			}
		}
	}
	switch a.at {
	case atTake:
		if m.role == free {
			m.role = held
			return hold(a.taken)
		}
		return goTo(atTakeAsleep)
	case atTakeAsleep:
		if m.role == asleep {
			m.role = held
			return hold(atAwaken)
		}
		then := a.failed
		a.taken, a.failed = 0, 0
		return goTo(then)
	case atAwaken:
		m.sleep = false
		then := a.taken
		a.taken, a.failed = 0, 0
		return goTo(then)

	case atRead:
		a.left = atCount
		stop := m
		stop.agents[i].at = atLeave
		if m.read == m.published {
			return []roleModel{stop}
		}
		if receive(atRead) {
			m.agents[i].left = atEnded
			return append(goTo(atLeave), stop)
		}
		return []roleModel{m, stop}
	case atCount:
		if m.calls[i].done {
			return goTo(atEnded)
		}
		m.parked++
		return goTo(atPark)
	case atPark:
		if m.calls[i].done {
			return goTo(atUncount)
		}
		m.calls[i].parked = true
		return goTo(atWatch)
	case atUncount:
		m.parked--
		return goTo(atEnded)

	case atWatch:
		if m.watch < 0 {
			m.watch = i
			return goTo(atForget)
		}
		a.taken, a.failed, a.left = atLeave, atReady, atReady
		if k.skip == atTake {
			return goTo(atReady)
		}
		return goTo(atTake)
	case atReady:
		if !m.calls[i].ready {
			return nil
		}
		m.calls[i].ready = false
		return goTo(atEnded)
	case atForget:
		if m.watch != i {
			k.wrong = "two wait for the doorbell"
		}
		switch {
		case m.closed && i == listener:
			return goTo(atEnded) // and keeps the watch
		case m.closed:
			a.left = atReady
			return goTo(atEndWatch)
		case m.poked:
			m.poked = false
			return goTo(atWoken)
		}
		m.note = false
		a.heeded = atBlock
		return goTo(atHeed)
	case atHeed:
		a.taken, a.failed, a.left = atHeedRead, atLook, atHeeded
		return goTo(atTake)
	case atHeedRead:
		if m.read == m.published {
			return goTo(atLeave)
		}
		if receive(atHeedRead) {
			return goTo(atMine)
		}
		return []roleModel{m}
	case atMine:
		m.calls[i].mine = true
		m.parked--
		return goTo(atLeave)
	case atLook:
		switch m.role {
		case free, asleep:
			return goTo(atHeed)
		case held:
			return goTo(atNote)
		}
		return goTo(atHeeded)
	case atNote:
		if m.role != held {
			return goTo(atLook)
		}
		m.role = heldNoted
		return goTo(atHeeded)
	case atHeeded:
		switch {
		case i == listener:
			return goTo(atListen)
		case m.calls[i].mine:
			a.left = atEnded
			return goTo(atEndWatch)
		case a.heeded == atBlock && m.calls[i].done && k.skip != atHeeded:
			return goTo(atWoken)
		case a.heeded == atBlock:
			return goTo(atBlock)
		case m.calls[i].done:
			return goTo(atWatchReady)
		}
		return goTo(atForget)
	case atWatchReady:
		if !m.calls[i].ready {
			return nil
		}
		m.calls[i].ready = false
		a.left = atEnded
		return goTo(atEndWatch)
	case atBlock:
		switch {
		case m.closed:
			return goTo(atForget)
		case m.poked:
			m.poked = false
			return goTo(atWoken)
		case m.note:
			return goTo(atWoken)
		}
		return nil
	case atWoken:
		if i == listener {
			return goTo(atForget)
		}
		a.heeded = atForget
		return goTo(atHeed)
	case atListen:
		if k.watched(&m) {
			return goTo(atBlock)
		}
		a.left = atEnded
		return goTo(atEndWatch)
	case atEndWatch:
		m.watch = -1
		return goTo(atRecheckWatch)
	case atRecheckWatch:
		if !k.watched(&m) {
			return goTo(a.left)
		}
		return goTo(atKeepWatch)
	case atKeepWatch:
		if m.watch >= 0 {
			return goTo(a.left)
		}
		m.watch = listener
		after := goTo(a.left)
		after[0].agents[listener] = agent{at: atForget}
		return after

	case atComplete:
		m.calls[a.other].done = true
		if m.calls[a.other].parked {
			return goTo(atCompleteParked)
		}
		return completed()
	case atCompleteParked:
		m.parked--
		return goTo(atSendReady)
	case atSendReady:
		m.calls[a.other].ready = true
		return goTo(atPoke)
	case atPoke:
		if m.watch == a.other {
			m.poked = true // the poke itself is harmless, whenever it comes
		}
		return completed()

	case atLeave:
		if !m.down {
			return goTo(atLeaveRelied)
		}
		m.role, m.buried, m.closed = over, true, true
		for i := range m.calls {
			c := &m.calls[i]
			switch {
			case c.claimed:
				continue // whoever has claimed it completes it
			case c.parked:
				m.parked--
				c.ready = true
			}
			c.claimed, c.done = true, true
		}
		return goTo(a.left)
	case atLeaveRelied:
		if !k.relied(&m) {
			return goTo(atLeaveFree)
		}
		return goTo(atDrain)
	case atLeaveFree:
		m.role, m.holder = free, -1
		return goTo(atRecheckRelied)
	case atRecheckRelied:
		if !k.relied(&m) {
			return goTo(atRecheckDown)
		}
		return goTo(atTakeBack)
	case atRecheckDown:
		if !m.down {
			return goTo(a.left)
		}
		return goTo(atTakeBack)
	case atTakeBack:
		if m.role != free {
			return goTo(a.left)
		}
		m.role = held
		return hold(atLeave)
	case atDrain:
		if m.read == m.published {
			return goTo(atDrained)
		}
		if receive(atDrain) { // its own, too, is completed as any other
			m.agents[i].other, m.agents[i].completed, m.agents[i].at = i, atDrain, atComplete
		}
		return []roleModel{m}
	case atDrained:
		if !k.relied(&m) {
			return goTo(atLeaveFree)
		}
		return goTo(atSleep)
	case atSleep:
		m.sleep, m.woken = true, false
		return goTo(atSleepCheck)
	case atSleepCheck:
		if m.read != m.published {
			return goTo(atAwake)
		}
		return goTo(atLeaveAsleep)
	case atAwake:
		m.sleep = false
		return goTo(atLeave)
	case atLeaveAsleep:
		if m.role != held {
			return goTo(atNoted)
		}
		m.role, m.holder = asleep, -1
		return goTo(atAsleepDown)
	case atAsleepDown:
		if !m.down {
			return goTo(a.left)
		}
		a.taken, a.failed = atLeave, a.left
		return goTo(atTake)
	case atNoted:
		m.sleep = false
		return goTo(atUnnote)
	case atUnnote:
		m.role = held
		return goTo(atLeave)

	case atFail:
		m.down = true
		a.taken, a.failed, a.left = atLeave, atCloseWire, atEnded
		return goTo(atTake)
	case atCloseWire:
		m.closed = true
		return goTo(atEnded)
	}
	return nil
}

// serve returns the state after the server's next step. ok is false when it has none.
func (k *roleChecker) serve(m roleModel) (roleModel, bool) {
	switch m.server {
	case 0, 3:
		m.published++
	case 1, 4:
		if !m.sleep || m.woken {
			m.server++ // no note
		} else {
			m.woken = true
		}
	case 2, 5:
		m.note = true
	default:
		return m, false
	}
	m.server++
	return m, true
}

// explore visits every state until something is wrong.
func (k *roleChecker) explore() {
	k.seen = map[roleModel]bool{}
	todo := []roleModel{k.start()}
	for len(todo) > 0 && k.wrong == "" {
		m := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if k.seen[m] {
			continue
		}
		k.seen[m], k.state = true, m
		after, ok := k.serve(m)
		more := []roleModel(nil)
		if ok {
			more = append(more, after)
		}
		for i := range m.agents {
			more = append(more, k.next(m, int8(i))...)
		}
		switch {
		case len(more) > 0:
		case m.agents[0].at != atEnded || m.agents[1].at != atEnded || k.closes && !m.buried:
			k.wrong = "everybody waits"
		case m.parked != 0:
			k.wrong = "the parked are not counted right"
		}
		todo = append(todo, more...)
	}
}

func TestReaderRole(t *testing.T) {
	for _, k := range []roleChecker{{}, {writer: true}, {routes: true}, {closes: true},
		{writer: true, closes: true}, {routes: true, closes: true}} {
		if k.closes && (testing.Short() || (k.writer || k.routes) && long(0, 1) == 0) {
			continue // millions of states
		}
		k.explore()
		if k.wrong != "" {
			t.Errorf("routes %v, writer %v, closes %v: %s in %+v", k.routes, k.writer, k.closes,
				k.wrong, k.state)
		}
		t.Logf("routes %v, writer %v, closes %v: %d states", k.routes, k.writer,
			k.closes, len(k.seen))
	}
}

// TestReaderRoleMutants leaves out each of the steps that look once more, and
// expects the checker to find who waits for ever.
func TestReaderRoleMutants(t *testing.T) {
	for name, k := range map[string]roleChecker{
		"a caller that has parked does not try to take the role":      {skip: atTake, writer: true},
		"who leaves the role free does not look for the parked again": {skip: atRecheckRelied},
		"who leaves the role free does not look for the end again": {skip: atRecheckDown,
			closes: true},
		"who leaves the role asleep does not look for the end again": {skip: atAsleepDown,
			closes: true},
		"a watcher that finds the role held does not tell the holder": {skip: atNote},
		"a watcher does not look before it sleeps":                    {skip: atHeed},
		"who gives the watch up does not look for the parked":         {skip: atRecheckWatch},
		"who completes the call of the watcher does not poke":         {skip: atPoke},
		"a new watcher does not look whether its call is completed":   {skip: atHeeded},
	} {
		t.Run(name, func(t *testing.T) {
			if k.explore(); k.wrong == "" {
				t.Errorf("not noticed in %d states", len(k.seen))
			}
		})
	}
}
