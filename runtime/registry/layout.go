package registry

import (
	"encoding/binary"
	"time"
)

// The layout of the table. All numbers are 64-bit words in the byte order of the machine, because
// only processes of one host share the file. They are read and written atomically.
//
//	header   magic, version, slot size, number of slots, reach; padded to 4096
//	slots    slotSize bytes each
const (
	magic      = 0x3167657267637069 // "ipcgreg1"
	version    = 2
	headerSize = 4096
	slotSize   = 640

	// Byte offsets in the header.
	offMagic    = 0
	offVersion  = 8
	offSlotSize = 16
	offSlots    = 24
	offReach    = 64 // in a cache line of its own, because it alone changes
)

// groupSize is the number of slots whose locks share a file.
const groupSize = 64

// lockByte is the byte of a group's file whose lock makes a process the owner of a slot. claimByte
// is the byte that a process locks before it takes or clears the slot.
func lockByte(slot int) int64 { return int64(slot % groupSize) }

func claimByte(slot int) int64 { return groupSize + lockByte(slot) }

// Words of a slot.
const (
	wState       = iota // generation<<1 | published
	wRole               // epoch<<8 | role
	wHash               // of the name
	wPID                //
	wStart              // nanoseconds since 1970
	wFingerprint        //
	wIncarnation        //
	wSum                // the checksum of the words from wHash on
	wLengths            // five bytes: name, service, control, reply, protocol
	wText               // these strings, one after the other
	slotWords    = slotSize / 8
	textSize     = slotSize - wText*8
)

// The five strings fit into a slot, whatever their lengths.
const _ = uint(textSize - 4*MaxNameLen - MaxProtocolLen)

// A slotImage is the content of a slot, copied word by word.
type slotImage [slotWords]uint64

// hashName is FNV-1a. The upper half of the 64 bits is folded into the lower half, because the low
// bits choose the slot.
func hashName(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return h ^ h>>32
}

// encode returns the image of rec without the state word.
func encode(rec *Record) *slotImage {
	var s slotImage
	s[wRole] = packRole(rec.Role, rec.Epoch)
	s[wHash] = hashName(rec.Name)
	s[wPID] = uint64(rec.PID)
	s[wStart] = uint64(rec.StartTime.UnixNano())
	s[wFingerprint] = rec.Fingerprint
	s[wIncarnation] = rec.Incarnation
	text := make([]byte, 0, textSize)
	for i, str := range []string{rec.Name, rec.Service, rec.Control, rec.Reply, rec.Protocol} {
		s[wLengths] |= uint64(len(str)) << (8 * i)
		text = append(text, str...)
	}
	text = text[:textSize]
	for i := range textSize / 8 {
		s[wText+i] = binary.NativeEndian.Uint64(text[8*i:])
	}
	s[wSum] = s.sum()
	return &s
}

// sum returns the checksum of the words that stay as they are while the slot is published. Each
// process reads them once, and so would keep one for life that was wrong at that moment. It is
// FNV-1a, of words.
func (s *slotImage) sum() uint64 {
	h := uint64(14695981039346656037)
	for w := wHash; w < slotWords; w++ {
		if w != wSum {
			h = (h ^ s[w]) * 1099511628211
			h ^= h >> 32
		}
	}
	return h
}

// decode returns the record of a slot. ok is false if the words do not form a record.
func (s *slotImage) decode() (rec Record, ok bool) {
	if s[wSum] != s.sum() {
		return Record{}, false
	}
	var text [textSize]byte
	for i := range textSize / 8 {
		binary.NativeEndian.PutUint64(text[8*i:], s[wText+i])
	}
	var lens [5]int
	total := 0
	for i := range lens {
		lens[i] = int(uint8(s[wLengths] >> (8 * i)))
		total += lens[i]
	}
	if total > textSize {
		return Record{}, false
	}
	all := string(text[:total])
	next := func(n int) (str string) {
		str, all = all[:n], all[n:]
		return str
	}
	rec = Record{
		Name: next(lens[0]), Service: next(lens[1]), Control: next(lens[2]), Reply: next(lens[3]),
		Protocol:    next(lens[4]),
		Fingerprint: s[wFingerprint],
		PID:         int(s[wPID]),
		StartTime:   time.Unix(0, int64(s[wStart])),
		Incarnation: s[wIncarnation],
	}
	rec.Role, rec.Epoch = unpackRole(s[wRole])
	return rec, s[wHash] == hashName(rec.Name) && rec.check() == nil
}

func packRole(role Role, epoch uint64) uint64 { return epoch<<8 | uint64(role) }

func unpackRole(w uint64) (Role, uint64) { return Role(w), w >> 8 }

// published reports whether a state word marks a readable slot.
func published(state uint64) bool { return state&1 == 1 }

// withdrawn returns the state that follows state: unpublished, of a new generation.
func withdrawn(state uint64) uint64 { return (state | 1) + 1 }
