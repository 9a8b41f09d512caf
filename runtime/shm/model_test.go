package shm_test

import (
	"fmt"
	"testing"
)

// A model of the protocol of sleeping and waking. Its steps are the single accesses to shared words
// that the code makes; all are atomic and sequentially consistent, as Go's are. The test tries
// every interleaving of a producer and a consumer. A lost wake-up shows as a state in which neither
// side can go on and not all records have arrived.
//
// The model has both directions: a consumer that sleeps while the ring is empty, and a producer
// that waits while the ring is full.
//
//	producer: Reserve  loads head           pReserve
//	          Starve   stores starve        pStarve
//	                   loads head again     pStarveCheck
//	          Wait     forgets older notes  pForget
//	          Starve   anew                 pStarve, pStarveCheck
//	                   waits for a note     pWait
//	          Commit   stores tail          pPublish
//	                   loads sleep          pSleeper
//	                   sends a note         pNotify
//	consumer: Next     loads tail           cNext
//	          Release  stores head          cRelease
//	                   loads starve         cStarver
//	                   sends a note         cNotify
//	          Wait     forgets older notes  cForget
//	          Sleep    stores sleep         cSleep
//	                   loads tail again     cSleepCheck
//	                   waits for a note     cWait
//	          Awake    clears sleep         cAwake
//
// Both sides sleep on a doorbell. At the beginning of a wait the doorbell forgets the notes that
// came before. The producer's wait may be made by another goroutine, which declares the wait again
// first.
type model struct {
	// The shared words, in records instead of bytes, and the notes that have arrived.
	tail, head, sleep, starve uint8
	toConsumer, toProducer    uint8

	p, c                  uint8 // the position of each side in its program
	pArmed                bool  // the producer has begun to wait
	pHead, pWoken, pWaits uint8 // private to the producer
	cTail, cPos           uint8 // private to the consumer
	cFed, cSleeps         uint8
}

const (
	pReserve = iota
	pStarve
	pStarveCheck
	pForget
	pWait
	pPublish
	pSleeper
	pNotify
	pDone
)

const (
	cNext = iota
	cRelease
	cStarver
	cNotify
	cForget
	cSleep
	cSleepCheck
	cWaitCheck // in the mutation forgetAfterSleep only
	cWait
	cAwake
	cDone
)

// A mutation leaves out a step of the protocol. The checker must notice it.
type mutation string

const (
	noMutation         mutation = ""
	noSleepCheck       mutation = "the consumer does not look again before it sleeps"
	noStarveCheck      mutation = "the producer does not look again before it waits"
	checkBeforePublish mutation = "the producer looks for a sleeper before it publishes"
	noTicket           mutation = "a sleep has no number of its own"
	forgetAfterStarve  mutation = "the producer forgets notes after it has declared its wait, " +
		"and looks again"
	forgetAfterSleep mutation = "the consumer forgets notes after it has declared its sleep, " +
		"and looks again"
)

type checker struct {
	records, capacity, half uint8
	mutation                mutation
	seen                    map[model]bool
	states                  int
	stuck                   *model
}

// beforePublish and afterPublish are the producer's steps around the store of tail, which the
// mutation exchanges.
func (k *checker) beforePublish() uint8 {
	if k.mutation == checkBeforePublish {
		return pSleeper
	}
	return pPublish
}

func (k *checker) afterPublish() uint8 {
	if k.mutation == checkBeforePublish {
		return pReserve
	}
	return pSleeper
}

func (k *checker) afterSleeper() uint8 {
	if k.mutation == checkBeforePublish {
		return pPublish
	}
	return pReserve
}

// producer makes the next step of the producer. ok is false if the producer must wait.
func (k *checker) producer(m model) (next model, ok bool) {
	switch m.p {
	case pReserve:
		if m.tail == k.records {
			m.p = pDone
			return m, true
		}
		if m.tail-m.pHead < k.capacity {
			m.p = k.beforePublish()
			return m, true
		}
		m.pHead = m.head
		m.p = pStarve
		if m.tail-m.pHead < k.capacity {
			m.p = k.beforePublish()
		}
	case pStarve:
		m.pWaits++
		m.starve = m.pWaits
		m.p = pStarveCheck
		if k.mutation == noStarveCheck {
			m.p = pWait
		}
	case pStarveCheck:
		m.pHead = m.head
		m.p = pForget
		if m.pArmed {
			m.p = pWait
		}
		if m.tail-m.pHead < k.capacity {
			m.starve = 0 // Fed; only this side acts on a stale value
			m.pArmed = false
			m.p = k.beforePublish()
		}
	case pForget:
		m.toProducer = 0
		m.pArmed = true
		m.p = pStarve
		if k.mutation == forgetAfterStarve {
			m.p = pStarveCheck
		}
	case pWait:
		if m.toProducer == 0 {
			return m, false
		}
		m.toProducer, m.pArmed = 0, false
		m.p = pReserve
	case pPublish:
		m.tail++
		m.p = k.afterPublish()
	case pSleeper:
		m.p = k.afterSleeper()
		if m.sleep != 0 && m.sleep != m.pWoken {
			m.pWoken = m.sleep
			m.p = pNotify
		}
	case pNotify:
		m.toConsumer = 1
		m.p = k.afterSleeper()
	default:
		return m, false
	}
	return m, true
}

// consumer makes the next step of the consumer.
func (k *checker) consumer(m model) (next model, ok bool) {
	switch m.c {
	case cNext:
		if m.cPos == k.records {
			m.c = cDone
			return m, true
		}
		if m.cPos == m.cTail {
			m.cTail = m.tail
		}
		m.c = cForget
		if k.mutation == forgetAfterSleep {
			m.c = cSleep
		}
		if m.cPos != m.cTail {
			m.cPos++
			m.c = cRelease
		}
	case cRelease:
		m.head = m.cPos
		m.c = cStarver
	case cStarver:
		m.c = cNext
		if m.starve != 0 && m.starve != m.cFed && m.cTail-m.cPos <= k.half {
			m.cFed = m.starve
			m.c = cNotify
		}
	case cNotify:
		m.toProducer = 1
		m.c = cNext
	case cForget:
		m.toConsumer = 0
		m.c = cSleep
		if k.mutation == forgetAfterSleep {
			m.c = cWaitCheck
		}
	case cWaitCheck:
		m.c = cWait
		if m.tail != m.cPos {
			m.c = cAwake
		}
	case cSleep:
		m.cSleeps++
		m.sleep = m.cSleeps
		if k.mutation == noTicket {
			m.sleep = 1
		}
		m.c = cSleepCheck
		if k.mutation == noSleepCheck {
			m.c = cWait
		}
	case cSleepCheck:
		m.c = cWait
		if k.mutation == forgetAfterSleep {
			m.c = cForget
		}
		if m.tail != m.cPos {
			m.c = cAwake
		}
	case cWait:
		if m.toConsumer == 0 {
			return m, false
		}
		m.toConsumer = 0
		m.c = cAwake
	case cAwake:
		m.sleep = 0
		m.c = cNext
	default:
		return m, false
	}
	return m, true
}

// explore visits every state that can be reached from m.
func (k *checker) explore(m model) {
	todo := []model{m}
	for len(todo) > 0 {
		m := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if k.seen[m] {
			continue
		}
		k.seen[m] = true
		k.states++
		a, pok := k.producer(m)
		if pok {
			todo = append(todo, a)
		}
		b, cok := k.consumer(m)
		if cok {
			todo = append(todo, b)
		}
		if !pok && !cok && (m.p != pDone || m.c != cDone) {
			k.stuck = &m
			return
		}
	}
}

func checkModel(t *testing.T, records, capacity uint8, mut mutation) *checker {
	t.Helper()
	k := &checker{records: records, capacity: capacity, half: capacity / 2, mutation: mut,
		seen: map[model]bool{}}
	k.explore(model{})
	return k
}

// TestNoLostWakeup tries all interleavings.
func TestNoLostWakeup(t *testing.T) {
	most := uint8(8)
	if testing.Short() {
		most = 5
	}
	for records := uint8(1); records <= most; records++ {
		for capacity := uint8(1); capacity <= 4; capacity++ {
			k := checkModel(t, records, capacity, noMutation)
			if k.stuck != nil {
				t.Fatalf("%d records, capacity %d: stuck in %+v", records, capacity, *k.stuck)
			}
			if records == most && capacity == 2 {
				t.Logf("%d states", k.states)
			}
		}
	}
}

// TestModelNoticesLostWakeups leaves out steps of the protocol, and expects the checker to find the
// states without a next step.
func TestModelNoticesLostWakeups(t *testing.T) {
	for _, mut := range []mutation{noSleepCheck, noStarveCheck, checkBeforePublish, noTicket,
		forgetAfterSleep, forgetAfterStarve} {
		t.Run(fmt.Sprint(mut), func(t *testing.T) {
			if k := checkModel(t, 6, 2, mut); k.stuck == nil {
				t.Error("not noticed")
			}
		})
	}
}
