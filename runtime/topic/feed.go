package topic

import "context"

// A FeedSource is a [Source] whose messages do not come through shared memory, but from another
// machine, say. [Subscribe] takes its Feed in place of the link to a publisher.
type FeedSource interface {
	Source
	// Feed begins to bring the messages of a topic. The options ask for what [Subscribe] says of
	// them; InPlace and OnBreak may be ignored. ctx bounds Feed alone.
	Feed(ctx context.Context, info *Info, o SubscribeOptions) (Feed, error)
}

// A Feed brings the messages of a topic to a [Subscription], which verifies them. One goroutine at
// a time calls Next and Latest, and any may call Close.
type Feed interface {
	// Next waits for the next message, and copies it to buf, or to a longer slice. Its error is an
	// [*ipc.Error], and the last one, unless it is that of a context that is done.
	Next(ctx context.Context, buf []byte) (message []byte, a Arrival, err error)
	// Latest copies the newest message that has come, without waiting, as Next does. ok is false if
	// there is none.
	Latest(ctx context.Context, buf []byte) (message []byte, a Arrival, ok bool, err error)
	// Close ends the feed, and a call of Next. It may be called again.
	Close() error
}

// nextOfFeed is copyNext for a subscription that has a feed. It needs mu.
func (s *Subscription) nextOfFeed(ctx context.Context, buf []byte) ([]byte, Arrival, error) {
	if err := s.ended(ctx); err != nil {
		return buf, Arrival{}, err
	}
	message, a, err := s.feed.Next(ctx, buf)
	if err != nil {
		if ended := s.ended(ctx); ended != nil {
			return buf, a, ended
		}
		return buf, a, s.end(err)
	}
	if err := s.verify(message, a.Number); err != nil {
		return buf, Arrival{}, err
	}
	s.arrival = a
	return message, a, nil
}

// latestOfFeed is Latest for a subscription that has a feed. It needs mu.
func (s *Subscription) latestOfFeed(ctx context.Context, buf []byte) ([]byte, Arrival, bool,
	error) {
	message, a, ok, err := s.feed.Latest(ctx, buf)
	if err == nil && ok {
		err = s.verify(message, a.Number)
	}
	if err != nil || !ok {
		return buf, Arrival{}, false, err
	}
	a.Lost, a.Break = 0, false
	return message, a, true, nil
}
