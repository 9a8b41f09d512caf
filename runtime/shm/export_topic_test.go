package shm

// Number is number, for tests.
func (t *TopicWriter) Number() uint64 { return t.number() }
