package ipc_test

import "testing"

// How the reader role of a client's connection passes between its callers and its
// listener, as a model whose steps are the single accesses to shared words in conn.go. Two callers
// wait for a reply each, the server publishes both, and in one variant the connection
// is closed meanwhile, at any moment. Every interleaving is tried: never do two goroutines
// hold the role, and never does everybody wait while a call is not completed, or a closed
// connection not buried. No caller has a deadline that would hide it.
//
// What the goroutines do, and what the steps are called, with at in front:
//
//	takeRole   CAS free to held                        take
//	           or CAS asleep to held, and Awake        takeAsleep, awaken
//	readFor    takes what is in the ring, and stops to look whenever it likes   read
//	park       unless the call is completed            park
//	           parked.Add(1)                           count
//	           takeRole, leaveRole
//	           waits for ready                         wait
//	           parked.Add(-1)                          uncount
//	leaveRole  looks at down, buries                   leave
//	           looks at parked                         leaveParked
//	           stores free                             leaveFree
//	           looks at parked and down again          recheckParked, recheckDown
//	           CAS free to held                        takeBack
//	           dispatches what is in the ring          drain
//	           Sleep: stores sleep, looks at tail      sleep, sleepCheck, awake
//	           CAS held to asleep                      leaveAsleep
//	           looks at down again                     asleepDown
//	           else, noted: Awake, stores held         noted, unnote
//	listen     waits for a note                        listen
//	           looks at role                           look
//	           CAS held to noted                       note
//	fail       CAS down, takeRole, leaveRole           fail
type roleModel struct {
	role   uint8
	parked int8
	sleep  bool // the word, as the server sees it
	woken  bool // the server has answered this sleep
	note   bool // under way to the listener
	down   bool
	buried bool

	published, read uint8    // replies 0 and 1, in this order
	done            [2]bool  // the calls that are completed
	agents          [4]agent // two callers, the listener, and who closes
	server          uint8    // its step: even publishes, odd looks at sleep
	holder          int8     // who holds the role, -1: nobody
}

// An agent is a goroutine: its next step, and where to go on after takeRole and leaveRole.
type agent struct {
	at            step
	taken, failed step // after takeRole
	left          step // after leaveRole
}

type step uint8

const (
	atEnded step = iota
	atTake
	atTakeAsleep
	atAwaken
	atRead
	atPark
	atCount
	atWait
	atUncount
	atLeave
	atLeaveParked
	atLeaveFree
	atRecheckParked
	atRecheckDown
	atTakeBack
	atDrain
	atSleep
	atSleepCheck
	atAwake
	atLeaveAsleep
	atAsleepDown
	atNoted
	atUnnote
	atListen
	atLook
	atNote
	atFail
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
	closes bool
	skip   step
	seen   map[roleModel]bool
	wrong  string
	state  roleModel
}

func newRoleModel(closes bool) roleModel {
	m := roleModel{holder: -1}
	for i := range 2 {
		m.agents[i] = agent{at: atTake, taken: atRead, failed: atPark}
	}
	m.agents[listener].at = atListen
	if closes {
		m.agents[closer].at = atFail
	}
	return m
}

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
		return goTo(s)
	}
	if a.at == k.skip {
		switch a.at {
		case atRecheckParked, atRecheckDown, atAsleepDown:
			return goTo(a.left)
		case atNote:
			return goTo(atListen)
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
		return goTo(a.failed)
	case atAwaken:
		m.sleep = false
		return goTo(a.taken)

	case atRead:
		a.left = atPark
		stop := m
		stop.agents[i].at = atLeave
		if m.read == m.published {
			return []roleModel{stop}
		}
		r := m.read
		m.read++
		m.done[r] = true
		if r == uint8(i) {
			m.agents[i].left = atEnded
			return append(goTo(atLeave), stop)
		}
		return append(goTo(atRead), stop)
	case atPark:
		if m.done[i] {
			return goTo(atEnded)
		}
		return goTo(atCount)
	case atCount:
		m.parked++
		a.taken, a.failed, a.left = atLeave, atWait, atWait
		if k.skip == atTake {
			return goTo(atWait)
		}
		return goTo(atTake)
	case atWait:
		if !m.done[i] {
			return nil
		}
		return goTo(atUncount)
	case atUncount:
		m.parked--
		return goTo(atEnded)

	case atLeave:
		if !m.down {
			return goTo(atLeaveParked)
		}
		m.role, m.buried = over, true
		m.done = [2]bool{true, true}
		return goTo(a.left)
	case atLeaveParked:
		if m.parked == 0 && !k.routes {
			return goTo(atLeaveFree)
		}
		return goTo(atDrain)
	case atLeaveFree:
		m.role, m.holder = free, -1
		return goTo(atRecheckParked)
	case atRecheckParked:
		if m.parked == 0 {
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
			return goTo(atSleep)
		}
		m.done[m.read] = true
		m.read++
		return goTo(atDrain)
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

	case atListen:
		if !m.note {
			return nil
		}
		m.note = false
		return goTo(atLook)
	case atLook:
		switch m.role {
		case asleep:
			a.taken, a.failed, a.left = atLeave, atLook, atListen
			return goTo(atTake)
		case held:
			return goTo(atNote)
		}
		return goTo(atListen)
	case atNote:
		if m.role != held {
			return goTo(atLook)
		}
		m.role = heldNoted
		return goTo(atListen)
	case atFail:
		m.down = true
		a.taken, a.failed, a.left = atLeave, atEnded, atEnded
		return goTo(atTake)
	}
	return nil
}

// serve returns the state after the server's next step. ok is false when it has none.
func (k *roleChecker) serve(m roleModel) (roleModel, bool) {
	switch {
	case m.server == 4:
		return m, false
	case m.server%2 == 0:
		m.published++
	case m.sleep && !m.woken:
		m.woken, m.note = true, true
	}
	m.server++
	return m, true
}

// explore visits every state until something is wrong.
func (k *roleChecker) explore() {
	k.seen = map[roleModel]bool{}
	todo := []roleModel{newRoleModel(k.closes)}
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
		if len(more) == 0 && (m.agents[0].at != atEnded || m.agents[1].at != atEnded || k.closes && !m.buried) {
			k.wrong = "everybody waits"
		}
		todo = append(todo, more...)
	}
}

func TestReaderRole(t *testing.T) {
	for _, k := range []roleChecker{{}, {routes: true}, {closes: true}, {routes: true, closes: true}} {
		if testing.Short() && k.routes && k.closes {
			continue // a million states
		}
		k.explore()
		if k.wrong != "" {
			t.Errorf("routes %v, closes %v: %s in %+v", k.routes, k.closes, k.wrong, k.state)
		}
		t.Logf("routes %v, closes %v: %d states", k.routes, k.closes, len(k.seen))
	}
}

// TestReaderRoleMutants leaves out each of the steps that look once more, and
// expects the checker to find who waits for ever.
func TestReaderRoleMutants(t *testing.T) {
	for name, k := range map[string]roleChecker{
		"a caller that has parked does not try to take the role":          {skip: atTake},
		"who leaves the role free does not look for the parked again":     {skip: atRecheckParked},
		"who leaves the role free does not look for the end again":        {skip: atRecheckDown, closes: true},
		"who leaves the role asleep does not look for the end again":      {skip: atAsleepDown, closes: true},
		"a listener that finds the role held does not tell the holder so": {skip: atNote},
	} {
		t.Run(name, func(t *testing.T) {
			if k.explore(); k.wrong == "" {
				t.Errorf("not noticed in %d states", len(k.seen))
			}
		})
	}
}
