/* ipcgen.h: a peer of ipcgen's runtime in C11, for Linux. It is written from docs/protocol.md alone,
 * and has a test that lets it talk to the Go runtime, so that it keeps that page honest.
 *
 * It makes calls (ipc_dial, ipc_call) and serves them (ipc_listen, ipc_accept, ipc_serve), and
 * subscribes to topics (ipc_subscribe, ipc_read), for copies. It does not send one-way messages, has
 * no streams, publishes no topics, and builds nothing in place. A connection belongs to one thread
 * at a time. All functions return 0 or an error: a code of ipcgen, IPC_...
 *
 * Bodies of messages are FlatBuffers. They are copied out of the shared memory before they are
 * passed on; verify the copy before you read it. */
#ifndef IPCGEN_H
#define IPCGEN_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create, F_OFD_SETLK, struct ucred */
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* The codes and outcomes that this file uses; docs/protocol.md has all. */
enum {
	IPC_OK = 0, IPC_DEADLINE_EXCEEDED = 2, IPC_UNAVAILABLE = 3, IPC_UNIMPLEMENTED = 4,
	IPC_INVALID_ARGUMENT = 5, IPC_RESOURCE_EXHAUSTED = 6, IPC_INCOMPATIBLE = 8, IPC_CORRUPT = 9,
	IPC_PERMISSION_DENIED = 11, IPC_TOO_LARGE = 12, IPC_ALREADY_EXISTS = 13, IPC_UNKNOWN = 17
};
enum { IPC_OUTCOME_UNKNOWN = 0, IPC_NOT_SENT = 1, IPC_NOT_EXECUTED = 2, IPC_EXECUTED = 3 };

/* A protocol as both sides compare it: generated code has the numbers and the text. */
typedef struct {
	const char *name;
	uint64_t fingerprint;
	const char *description;
} ipc_protocol;

/* One direction of a connection. The fields are private copies: what the peer writes is loaded
 * once, checked, and then used. */
typedef struct {
	unsigned char *words, *data;
	uint64_t capacity, tail, head, number, answered;
} ipc_ring;

typedef struct {
	int socket, bell; /* -1: closed */
	void *memory;
	size_t size;
	ipc_ring in, out;
	uint32_t max_message;
	uint64_t calls;
	int64_t clock; /* what the clock of this process is ahead of the machine's */
	int serves, draining, revoked;
	struct ucred peer;
	/* The message in pieces that is under way. */
	unsigned char *body, first[64];
	uint32_t kind;
	uint64_t total, got;
} ipc_conn;

/* A message as it arrives, or the answer to a call. The body belongs to whoever got it: free it. */
typedef struct {
	uint32_t kind, method;
	uint64_t id, epoch, seq;
	int64_t deadline;
	uint16_t code;
	uint8_t outcome;
	unsigned char *body;
	size_t len;
} ipc_message;

/* FNV-1a, 32 and 64 bits. A method's number is ipc_hash32 of "protocol/method". */
static inline uint32_t ipc_hash32(const char *s) {
	uint32_t h = 2166136261u;
	for (; *s; s++) h = (h ^ (unsigned char)*s) * 16777619u;
	return h;
}

static inline uint64_t ipc_hash64(const char *s) {
	uint64_t h = 14695981039346656037u;
	for (; *s; s++) h = (h ^ (unsigned char)*s) * 1099511628211u;
	return h;
}

/* ---- words in shared memory ---- */

enum { ipc_tail = 0, ipc_head = 128, ipc_sleep = 256, ipc_starve = 384, ipc_taken = 136,
       ipc_revoke = 392, ipc_words = 512 };

static inline _Atomic uint64_t *ipc_word(ipc_ring *r, int offset) {
	return (_Atomic uint64_t *)(void *)(r->words + offset);
}
static inline uint64_t ipc_load(ipc_ring *r, int offset) { return atomic_load(ipc_word(r, offset)); }
static inline void ipc_store(ipc_ring *r, int offset, uint64_t v) {
	atomic_store(ipc_word(r, offset), v);
}

static inline void ipc_knock(ipc_conn *c) {
	(void)!send(c->bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ipc_wake rings the doorbell if the peer sleeps at a word, with a number not answered yet. */
static inline void ipc_wake(ipc_conn *c, ipc_ring *r, int word) {
	uint64_t n = ipc_load(r, word);
	if (n != 0 && n != r->answered) {
		r->answered = n;
		ipc_knock(c);
	}
}

/* ---- waiting ---- */

static inline int64_t ipc_now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ipc_clock returns what a time namespace adds to the machine's clock. */
static inline int64_t ipc_clock(void) {
	long long s = 0, ns = 0;
	FILE *f = fopen("/proc/self/timens_offsets", "r");
	if (!f) return 0;
	if (fscanf(f, "monotonic %lld %lld", &s, &ns) != 2) s = ns = 0;
	fclose(f);
	return (int64_t)s * 1000000000 + ns;
}

/* ipc_wait blocks until the doorbell rings, the peer is gone, or the deadline (0: none) passes. The
 * caller has declared that it sleeps, and has looked once more. Every byte of the bell is read, so
 * the order of these steps does not matter. */
static inline int ipc_wait(ipc_conn *c, int64_t deadline) {
	struct pollfd p[2] = {{c->bell, POLLIN, 0}, {c->socket, POLLIN, 0}};
	int timeout = -1;
	if (deadline) {
		int64_t left = deadline - ipc_now();
		if (left <= 0) return IPC_DEADLINE_EXCEEDED;
		timeout = left / 1000000 > 60000 ? 60000 : (int)(left / 1000000) + 1;
	}
	if (poll(p, 2, timeout) < 0 && errno != EINTR) return IPC_UNAVAILABLE;
	char b[256];
	if (p[0].revents) (void)!recv(c->bell, b, sizeof b, MSG_DONTWAIT);
	if (p[1].revents) {
		ssize_t n = recv(c->socket, b, 1, MSG_DONTWAIT);
		if (n == 1 && b[0] == 'g' && !c->serves) c->draining = 1;
		else if (n >= 0 || (errno != EAGAIN && errno != EINTR)) return IPC_UNAVAILABLE;
	}
	return IPC_OK;
}

/* ---- rings ---- */

static inline uint64_t ipc_record(uint64_t payload) { return (8 + payload + 7) & ~(uint64_t)7; }

/* ipc_reserve waits for room for a record of n bytes, and returns its payload. */
static inline int ipc_reserve(ipc_conn *c, uint64_t n, int64_t deadline, unsigned char **payload) {
	ipc_ring *r = &c->out;
	uint64_t at = r->tail % r->capacity, len = ipc_record(n), pad = 0;
	int err = IPC_OK;
	if (at + len > r->capacity) pad = r->capacity - at; /* a record never wraps */
	for (int asked = 0;; asked = 1) {
		uint64_t head = ipc_load(r, ipc_head);
		if (head < r->head || head > r->tail || head % 8) return IPC_CORRUPT;
		r->head = head;
		if (r->capacity - (r->tail - head) >= pad + len) break;
		if (asked && (err = ipc_wait(c, deadline))) break;
		ipc_store(r, ipc_starve, ++r->number);
	}
	if (r->number) ipc_store(r, ipc_starve, 0);
	if (err) return err;
	if (pad) {
		uint64_t header = (pad - 8) | (uint64_t)0xffffffff << 32;
		memcpy(r->data + at, &header, 8);
		at = 0;
	}
	*payload = r->data + at + 8;
	r->tail += pad; /* published with the record behind it */
	return IPC_OK;
}

static inline void ipc_publish(ipc_conn *c, unsigned char *payload, uint64_t n, uint32_t tag) {
	ipc_ring *r = &c->out;
	uint64_t header = n | (uint64_t)tag << 32;
	memcpy(payload - 8, &header, 8);
	r->tail += ipc_record(n);
	ipc_store(r, ipc_tail, r->tail);
	ipc_wake(c, r, ipc_sleep);
}

/* ipc_next finds the next record without a wait. *rec is NULL if there is none. */
static inline int ipc_next(ipc_conn *c, uint32_t *tag, unsigned char **rec, uint64_t *n) {
	ipc_ring *r = &c->in;
	*rec = NULL;
	uint64_t tail = ipc_load(r, ipc_tail);
	if (tail < r->tail || tail % 8 || tail - r->head > r->capacity) return IPC_CORRUPT;
	r->tail = tail;
	while (r->head != tail) {
		uint64_t at = r->head % r->capacity, header;
		memcpy(&header, r->data + at, 8);
		uint64_t len = (uint32_t)header, all = ipc_record(len);
		if (all > tail - r->head || at + all > r->capacity) return IPC_CORRUPT;
		r->head += all; /* given back by ipc_give_back */
		if (header >> 32 == 0xffffffff) continue;
		*tag = (uint32_t)(header >> 32), *rec = r->data + at + 8, *n = len;
		break;
	}
	return IPC_OK;
}

/* ipc_give_back returns the room of all records that ipc_next has found. */
static inline void ipc_give_back(ipc_conn *c) {
	ipc_ring *r = &c->in;
	ipc_store(r, ipc_head, r->head);
	uint64_t n = ipc_load(r, ipc_starve);
	if (n != 0 && n != r->answered && r->tail - r->head <= r->capacity / 2) {
		r->answered = n;
		ipc_knock(c);
	}
}

/* ---- messages ---- */

enum { ipc_request = 1, ipc_reply, ipc_error, ipc_cancel, ipc_oneway, ipc_piece, ipc_abort,
       ipc_more = 0x100, ipc_gap = 0x200, ipc_metadata = 0x400 };

static inline size_t ipc_frame(uint32_t kind) { return kind == ipc_request ? 40 : 24; }

static inline void ipc_put(unsigned char *b, const ipc_message *m) {
	uint64_t codes = m->method | (uint64_t)m->code << 32 | (uint64_t)m->outcome << 48;
	memcpy(b, &m->id, 8), memcpy(b + 8, &m->epoch, 8), memcpy(b + 16, &codes, 8);
	if (m->kind == ipc_request) memcpy(b + 24, &m->seq, 8), memcpy(b + 32, &m->deadline, 8);
}

static inline void ipc_get(ipc_message *m, const unsigned char *b) {
	uint64_t codes;
	memcpy(&m->id, b, 8), memcpy(&m->epoch, b + 8, 8), memcpy(&codes, b + 16, 8);
	m->method = (uint32_t)codes, m->code = (uint16_t)(codes >> 32), m->outcome = (uint8_t)(codes >> 48);
	if (m->kind == ipc_request) memcpy(&m->seq, b + 24, 8), memcpy(&m->deadline, b + 32, 8);
}

/* ipc_frame_of returns the length of a frame header with its metadata, of which this peer has no
 * use, or 0 if the record is too short for it. */
static inline size_t ipc_frame_of(uint32_t tag, const unsigned char *rec, uint64_t n) {
	size_t frame = ipc_frame(tag & 0xff);
	uint32_t len;
	if (n < frame || !(tag & ipc_metadata)) return n < frame ? 0 : frame;
	if (n < frame + 4) return 0;
	memcpy(&len, rec + frame, 4);
	if (len == 0 || len > 4096 || n - frame < ((len + 11) & ~7u)) return 0;
	return frame + ((len + 11) & ~7u);
}

/* ipc_send_message writes a message, in pieces if it is long. The deadline holds for its first
 * record alone: a message of which a part is in the ring must be finished. */
static inline int ipc_send_message(ipc_conn *c, const ipc_message *m, const void *body, size_t len,
                                   int64_t deadline) {
	size_t frame = ipc_frame(m->kind), most = (size_t)(c->out.capacity / 2 - 8);
	unsigned char *p;
	int err;
	if (len > c->max_message) return IPC_TOO_LARGE;
	if (frame + len <= most / 2) {
		if ((err = ipc_reserve(c, frame + len, deadline, &p))) return err;
		ipc_put(p, m);
		if (len) memcpy(p + frame, body, len);
		ipc_publish(c, p, frame + len, m->kind);
		return IPC_OK;
	}
	size_t piece = most / 4;
	uint64_t total = len;
	if ((err = ipc_reserve(c, frame + 8 + piece, deadline, &p))) return err;
	ipc_put(p, m), memcpy(p + frame, &total, 8), memcpy(p + frame + 8, body, piece);
	ipc_publish(c, p, frame + 8 + piece, m->kind | ipc_more);
	for (size_t at = piece; at < len; at += piece) {
		size_t n = len - at < piece ? len - at : piece;
		if ((err = ipc_reserve(c, n, 0, &p))) return err;
		memcpy(p, (const unsigned char *)body + at, n);
		ipc_publish(c, p, n, ipc_piece | (at + n < len ? ipc_more : 0));
	}
	return IPC_OK;
}

/* ipc_take takes one record. *m is a whole message if *whole is set. Records are copied and given
 * back before anything acts on them. */
static inline int ipc_take(ipc_conn *c, ipc_message *m, int *whole, int *any) {
	uint32_t tag;
	unsigned char *rec;
	uint64_t n;
	*whole = *any = 0;
	int err = ipc_next(c, &tag, &rec, &n);
	if (err || !rec) {
		if (!err) ipc_give_back(c); /* of padding */
		return err;
	}
	*any = 1;
	uint32_t kind = tag & 0xff;
	if (tag & ~(uint32_t)(0xff | ipc_more | ipc_gap | ipc_metadata)) return IPC_CORRUPT;
	size_t frame = ipc_frame_of(tag, rec, n);
	if (kind == ipc_piece) {
		if (!c->body || n > c->total - c->got) return IPC_CORRUPT;
		memcpy(c->body + c->got, rec, n);
		c->got += n;
		if ((c->got == c->total) == !!(tag & ipc_more)) return IPC_CORRUPT;
		if (c->got == c->total) {
			m->kind = c->kind, ipc_get(m, c->first), m->body = c->body, m->len = c->total;
			c->body = NULL, *whole = 1;
		}
	} else if (kind == ipc_abort) {
		free(c->body), c->body = NULL;
	} else if (c->body || !frame) {
		return IPC_CORRUPT; /* a message within another, or no frame */
	} else if (tag & ipc_more) {
		if (n < frame + 8 || tag & ipc_gap) return IPC_CORRUPT;
		memcpy(&c->total, rec + frame, 8);
		if (c->total > c->max_message || n - frame - 8 >= c->total) return IPC_CORRUPT;
		if (!(c->body = malloc(c->total))) return IPC_RESOURCE_EXHAUSTED;
		c->kind = kind, c->got = n - frame - 8;
		memcpy(c->first, rec, ipc_frame(kind)), memcpy(c->body, rec + frame + 8, c->got);
	} else {
		uint64_t skip = frame, unused;
		if (tag & ipc_gap) { /* built in place: the body ends where the record ends */
			if (n < frame + 8) return IPC_CORRUPT;
			memcpy(&unused, rec + frame, 8);
			if (unused > n - frame - 8) return IPC_CORRUPT;
			skip = frame + 8 + unused;
		}
		if (n - skip > c->max_message) return IPC_CORRUPT;
		m->kind = kind, ipc_get(m, rec), m->len = n - skip;
		if (!(m->body = malloc(m->len + 1))) return IPC_RESOURCE_EXHAUSTED;
		memcpy(m->body, rec + skip, m->len), *whole = 1;
	}
	ipc_give_back(c);
	return IPC_OK;
}

/* ipc_receive waits for the next whole message. */
static inline int ipc_receive(ipc_conn *c, int64_t deadline, ipc_message *m) {
	for (int gone = 0;;) {
		int whole, any, err = ipc_take(c, m, &whole, &any);
		if (err || whole) return err;
		if (any) continue;
		if (gone) return gone; /* what the ring still held is read */
		ipc_store(&c->in, ipc_sleep, ++c->in.number);
		if (ipc_load(&c->in, ipc_tail) == c->in.tail) {
			gone = ipc_wait(c, deadline);
			if (gone == IPC_DEADLINE_EXCEEDED) {
				ipc_store(&c->in, ipc_sleep, 0);
				return gone;
			}
		}
		ipc_store(&c->in, ipc_sleep, 0);
	}
}

/* ---- handshake ---- */

enum { ipc_magic = 0x63706930, ipc_version = 3, ipc_layout = 3, ipc_max_text = 16 << 20,
       ipc_max_body = 16 << 20 };

typedef struct { unsigned char b[1 << 16]; size_t n, at; int bad; } ipc_hello;

static inline void ipc_add(ipc_hello *h, const void *p, size_t n) {
	if (h->bad |= n > sizeof h->b - h->n) return;
	memcpy(h->b + h->n, p, n), h->n += n;
}
static inline void ipc_add32(ipc_hello *h, uint32_t v) { ipc_add(h, &v, 4); }
static inline void ipc_add_text(ipc_hello *h, const char *s) {
	ipc_add32(h, (uint32_t)strlen(s)), ipc_add(h, s, strlen(s));
}
static inline void ipc_cut(ipc_hello *h, void *p, size_t n) {
	if (h->bad |= n > h->n - h->at) { memset(p, 0, n); return; }
	memcpy(p, h->b + h->at, n), h->at += n;
}
static inline uint32_t ipc_cut32(ipc_hello *h) { uint32_t v; ipc_cut(h, &v, 4); return v; }

/* ipc_cut_text reads a string of any length, and keeps its beginning. */
static inline void ipc_cut_text(ipc_hello *h, char *s, size_t room) {
	size_t n = ipc_cut32(h), keep = n < room - 1 ? n : room - 1;
	if (h->bad |= n > h->n - h->at) { s[0] = 0; return; }
	memcpy(s, h->b + h->at, keep), s[keep] = 0, h->at += n;
}

/* ipc_send_hello sends a message of the handshake, with descriptors at its first byte. */
static inline int ipc_send_hello(int fd, ipc_hello *h, const int *fds, int count) {
	uint32_t n = (uint32_t)h->n;
	if (h->bad) return IPC_INVALID_ARGUMENT;
	struct iovec v[2] = {{&n, 4}, {h->b, h->n}};
	union { struct cmsghdr align; char b[CMSG_SPACE(2 * sizeof(int))]; } control = {0};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	if (count) {
		m.msg_control = control.b, m.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t)(4 + h->n) ? IPC_OK : IPC_UNAVAILABLE;
}

/* ipc_receive_hello receives one, and the descriptors that come with it. A server hello beyond
 * 64 KiB, of a server with some thousand protocols, is refused. */
static inline int ipc_receive_hello(int fd, ipc_hello *h, int *fds, int count) {
	memset(h, 0, sizeof *h);
	size_t have = 0, want = 4;
	uint32_t n = 0;
	while (have < want) {
		struct iovec v = have < 4 ? (struct iovec){(char *)&n + have, 4 - have}
		                          : (struct iovec){h->b + have - 4, want - have};
		union { struct cmsghdr align; char b[CMSG_SPACE(3 * sizeof(int))]; } control;
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control.b,
		                   .msg_controllen = sizeof control.b};
		ssize_t got = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
		if (got < 0 && errno == EINTR) continue;
		if (got <= 0) return IPC_UNAVAILABLE;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
			if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
				int all[3], k = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
				memcpy(all, CMSG_DATA(c), (size_t)k * sizeof(int));
				for (int i = 0; i < k; i++)
					if (i < count && fds[i] < 0) fds[i] = all[i];
					else close(all[i]);
			}
		have += (size_t)got;
		if (have == 4 && want == 4) {
			if (n > sizeof h->b) return IPC_INCOMPATIBLE;
			want = 4 + n, h->n = n;
		}
	}
	return ipc_cut32(h) == ipc_magic ? IPC_OK : IPC_INCOMPATIBLE;
}

static inline int ipc_verdict(int fd, int code, const char *why) {
	ipc_hello h = {.n = 0};
	ipc_add32(&h, ipc_magic), ipc_add32(&h, (uint32_t)code), ipc_add_text(&h, why);
	return ipc_send_hello(fd, &h, NULL, 0);
}

static inline int ipc_capacity(uint64_t n) {
	return n >= 4096 && n <= 1 << 30 && (n & (n - 1)) == 0;
}

/* ipc_seals of the size are there from the beginning, the others once both sides have mapped. */
enum { ipc_size_seals = F_SEAL_SHRINK | F_SEAL_GROW, ipc_last_seals = 0x10 | F_SEAL_SEAL };

static inline int ipc_whole(int fd, size_t size) {
	struct stat st;
	return fstat(fd, &st) == 0 && (uint64_t)st.st_size >= size && (uint64_t)st.st_blocks * 512 >= size;
}

/* ipc_seal takes from both sides the right to change the memory file. */
static inline int ipc_seal(int fd, size_t size) {
	if (fcntl(fd, F_ADD_SEALS, ipc_last_seals) < 0 && errno == EINVAL)
		(void)fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL); /* before Linux 5.1 */
	return fcntl(fd, F_GET_SEALS) & F_SEAL_SEAL && ipc_whole(fd, size) ? IPC_OK : IPC_CORRUPT;
}

static inline size_t ipc_size(uint64_t up, uint64_t down, uint64_t text) {
	return 128 + (ipc_words + up) + (ipc_words + down) + text;
}

static inline int ipc_map(ipc_conn *c, int fd, uint64_t up, uint64_t down, uint64_t text) {
	c->size = ipc_size(up, down, text);
	void *m = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED) return IPC_RESOURCE_EXHAUSTED;
	c->memory = m;
	unsigned char *to_server = (unsigned char *)m + 128, *to_client = to_server + ipc_words + up;
	ipc_ring a = {.words = to_server, .data = to_server + ipc_words, .capacity = up};
	ipc_ring b = {.words = to_client, .data = to_client + ipc_words, .capacity = down};
	c->out = c->serves ? b : a, c->in = c->serves ? a : b;
	return IPC_OK;
}

/* ipc_close ends a connection. A client first revokes what the server has not taken. */
static inline void ipc_close(ipc_conn *c) {
	if (c->memory && !c->serves) ipc_store(&c->out, ipc_revoke, 1);
	if (c->socket >= 0) close(c->socket);
	if (c->bell >= 0) close(c->bell);
	if (c->memory) munmap(c->memory, c->size);
	free(c->body);
	memset(c, 0, sizeof *c);
	c->socket = c->bell = -1;
}

static inline int ipc_same_user(ipc_conn *c) {
	socklen_t n = sizeof c->peer;
	return getsockopt(c->socket, SOL_SOCKET, SO_PEERCRED, &c->peer, &n) == 0 &&
	       c->peer.uid == geteuid();
}

static inline int ipc_address(struct sockaddr_un *a, const char *domain, const char *channel) {
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	int n = snprintf(a->sun_path, sizeof a->sun_path, "%s/%s.sock", domain, channel);
	return n > 0 && (size_t)n < sizeof a->sun_path ? IPC_OK : IPC_INVALID_ARGUMENT;
}

/* ---- clients ---- */

/* ipc_meet connects to the socket of a channel. */
static inline int ipc_meet(ipc_conn *c, const char *domain, const char *channel) {
	memset(c, 0, sizeof *c);
	c->bell = -1, c->clock = ipc_clock();
	struct sockaddr_un a;
	c->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err = ipc_address(&a, domain, channel);
	if (err) return err;
	if (c->socket < 0 || connect(c->socket, (struct sockaddr *)&a, sizeof a) < 0)
		return IPC_UNAVAILABLE;
	return ipc_same_user(c) ? IPC_OK : IPC_PERMISSION_DENIED;
}

/* ipc_client_hello writes a client hello, up to the protocol. */
static inline void ipc_client_hello(ipc_hello *h, const char *channel, const ipc_protocol *p) {
	ipc_add32(h, ipc_magic), ipc_add32(h, ipc_version), ipc_add32(h, ipc_layout);
	for (int i = 0; i < 3; i++) ipc_add32(h, 0); /* capacities, max_message */
	ipc_add_text(h, channel), ipc_add_text(h, ""), ipc_add32(h, 1);
	ipc_add_text(h, p->name), ipc_add(h, &p->fingerprint, 8), ipc_add32(h, 0), ipc_add32(h, 0);
}

/* ipc_serves reads the end of a server hello, and tells whether the server has the protocol. */
static inline int ipc_serves(ipc_hello *h, const ipc_protocol *p) {
	char name[256];
	ipc_cut_text(h, name, sizeof name), ipc_cut_text(h, name, sizeof name);
	int served = 0;
	for (uint32_t n = ipc_cut32(h); n > 0 && !h->bad; n--) {
		uint64_t fingerprint;
		ipc_cut_text(h, name, sizeof name), ipc_cut(h, &fingerprint, 8);
		(void)ipc_cut32(h), (void)ipc_cut32(h);
		served |= strcmp(name, p->name) == 0 && fingerprint == p->fingerprint;
	}
	return served;
}

/* ipc_dial connects to a channel of a domain, which is a path. The protocol is compared with the
 * server's by its fingerprint; versions that are compatible and not equal are refused. */
static inline int ipc_dial(ipc_conn *c, const char *domain, const char *channel,
                           const ipc_protocol *p) {
	int fds[2] = {-1, -1};
	ipc_hello h = {.n = 0};
	int err = ipc_meet(c, domain, channel);
	if (err) goto failed;
	ipc_client_hello(&h, channel, p);
	for (int i = 0; i < 6; i++) ipc_add32(&h, 0); /* no stream, no streaming calls */
	if ((err = ipc_send_hello(c->socket, &h, NULL, 0))) goto failed;
	if ((err = ipc_receive_hello(c->socket, &h, fds, 2))) goto failed;
	uint32_t version = ipc_cut32(&h), layout = ipc_cut32(&h), code = ipc_cut32(&h);
	if (code) { err = (int)code; goto failed; }
	err = IPC_INCOMPATIBLE;
	if (version != ipc_version || layout != ipc_layout) goto failed;
	uint64_t up = ipc_cut32(&h), down = ipc_cut32(&h), text = ipc_cut32(&h);
	c->max_message = ipc_cut32(&h);
	(void)ipc_cut32(&h); /* calls in flight: this client has one */
	int served = ipc_serves(&h, p);
	err = IPC_CORRUPT;
	if (h.bad || !ipc_capacity(up) || !ipc_capacity(down) || text > ipc_max_text ||
	    c->max_message > ipc_max_body || fds[0] < 0 || fds[1] < 0) goto failed;
	size_t size = ipc_size(up, down, text);
	if ((fcntl(fds[0], F_GET_SEALS) & ipc_size_seals) != ipc_size_seals || !ipc_whole(fds[0], size))
		goto failed;
	if ((err = ipc_map(c, fds[0], up, down, text))) goto failed;
	if ((err = ipc_seal(fds[0], size))) goto failed;
	if (!served) {
		(void)ipc_verdict(c->socket, IPC_INCOMPATIBLE, "the server serves another version");
		err = IPC_INCOMPATIBLE;
		goto failed;
	}
	if ((err = ipc_verdict(c->socket, IPC_OK, ""))) goto failed;
	close(fds[0]), c->bell = fds[1];
	return IPC_OK;
failed:
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0) close(fds[i]);
	ipc_close(c);
	return err;
}

/* ipc_call calls a method, and waits for the answer until deadline, in nanoseconds of
 * CLOCK_MONOTONIC; 0 is none. After an error, answer->outcome says whether the call may have been
 * executed, and answer->body is the text of the server's error, if it sent one. Free it. */
static inline int ipc_call(ipc_conn *c, uint32_t method, const void *body, size_t len,
                           int64_t deadline, ipc_message *answer) {
	memset(answer, 0, sizeof *answer);
	answer->outcome = IPC_NOT_SENT;
	if (c->draining) return IPC_UNAVAILABLE;
	ipc_message m = {.kind = ipc_request, .method = method, .id = ++c->calls, .seq = c->calls,
	                 .deadline = deadline ? deadline - c->clock : 0};
	int err = ipc_send_message(c, &m, body, len, deadline);
	if (err) return err;
	answer->outcome = IPC_OUTCOME_UNKNOWN;
	uint64_t end = c->out.tail;
	for (;;) {
		err = ipc_receive(c, deadline, answer);
		if (err == IPC_DEADLINE_EXCEEDED) {
			ipc_message cancel = {.kind = ipc_cancel, .id = m.id};
			(void)ipc_send_message(c, &cancel, NULL, 0, ipc_now() + 10000000);
			return err; /* outcome unknown; a late answer is dropped below */
		}
		if (err) { /* the connection has ended: is the request taken? */
			ipc_store(&c->out, ipc_revoke, 1);
			uint64_t taken = ipc_load(&c->out, ipc_taken), head = ipc_load(&c->out, ipc_head);
			if (taken < end && head < end) answer->outcome = IPC_NOT_EXECUTED;
			return err;
		}
		if (answer->id == m.id && (answer->kind == ipc_reply || answer->kind == ipc_error)) break;
		free(answer->body);
		memset(answer, 0, sizeof *answer);
	}
	if (answer->kind == ipc_reply) {
		answer->outcome = IPC_EXECUTED;
		return IPC_OK;
	}
	return answer->code ? answer->code : IPC_UNKNOWN;
}

/* ---- servers ---- */

typedef struct { int socket, dir, lock; char name[81]; } ipc_listener;

static inline int ipc_lock(int fd, short type, off_t at, int test) {
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
	if (fcntl(fd, test ? F_OFD_GETLK : F_OFD_SETLK, &l) < 0) return -1;
	return test ? l.l_type != F_UNLCK : 0;
}

/* ipc_unlisten stops serving a channel, and removes its files. */
static inline void ipc_unlisten(ipc_listener *l) {
	char name[96];
	if (l->socket >= 0) {
		close(l->socket);
		snprintf(name, sizeof name, "%s.sock", l->name), unlinkat(l->dir, name, 0);
		snprintf(name, sizeof name, "%s.lock", l->name), unlinkat(l->dir, name, 0);
	}
	if (l->lock >= 0) close(l->lock);
	if (l->dir >= 0) close(l->dir);
	l->socket = l->lock = l->dir = -1;
}

/* ipc_listen takes a channel of a domain, a path whose directory exists. It does not watch whether
 * its files stay in place. */
static inline int ipc_listen(ipc_listener *l, const char *domain, const char *channel) {
	char name[96], claim[96], pid[16];
	struct sockaddr_un a;
	struct stat mine, there;
	int err = IPC_INVALID_ARGUMENT;
	l->socket = l->lock = -1;
	l->dir = open(domain, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (strlen(channel) > 80 || l->dir < 0 || ipc_address(&a, domain, channel)) goto failed;
	strcpy(l->name, channel);
	snprintf(name, sizeof name, "%s.lock", channel);
	err = IPC_ALREADY_EXISTS;
	do {
		if (l->lock >= 0) close(l->lock);
		l->lock = openat(l->dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (l->lock < 0 || ipc_lock(l->lock, F_WRLCK, 0, 0)) goto failed;
	} while (fstat(l->lock, &mine) || fstatat(l->dir, name, &there, 0) ||
	         mine.st_ino != there.st_ino || mine.st_dev != there.st_dev);
	int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
	(void)!ftruncate(l->lock, 0), (void)!pwrite(l->lock, pid, (size_t)n, 0);
	snprintf(claim, sizeof claim, "channel/%s", channel);
	off_t byte = (off_t)(ipc_hash64(claim) >> 2);
	if (ipc_lock(l->dir, F_RDLCK, byte, 0) || ipc_lock(l->dir, F_WRLCK, byte, 1)) goto failed;
	(void)flock(l->dir, LOCK_SH | LOCK_NB);
	snprintf(name, sizeof name, "%s.sock", channel), unlinkat(l->dir, name, 0);
	err = IPC_UNAVAILABLE;
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0) goto failed;
	if (bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 128) < 0) {
		close(s);
		goto failed;
	}
	l->socket = s;
	return IPC_OK;
failed:
	ipc_unlisten(l);
	return err;
}

/* ipc_accept takes the next client, and offers it one protocol. */
static inline int ipc_accept(ipc_conn *c, ipc_listener *l, const ipc_protocol *p) {
	memset(c, 0, sizeof *c);
	c->serves = 1, c->bell = -1, c->clock = ipc_clock(), c->max_message = ipc_max_body;
	int fds[2] = {-1, -1}, bells[2] = {-1, -1}, err = IPC_UNAVAILABLE;
	while ((c->socket = accept4(l->socket, NULL, NULL, SOCK_CLOEXEC)) < 0)
		if (errno != EINTR && errno != ECONNABORTED) goto failed;
	struct timeval patience = {5, 0};
	(void)setsockopt(c->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	ipc_hello h;
	if ((err = ipc_receive_hello(c->socket, &h, NULL, 0))) goto failed;
	uint32_t version = ipc_cut32(&h), layout = ipc_cut32(&h);
	uint64_t up = ipc_cut32(&h), down = ipc_cut32(&h);
	uint32_t longest = ipc_cut32(&h), refusal = IPC_OK;
	if (longest && longest < c->max_message) c->max_message = longest;
	/* A wanted capacity is the most: the next power of two, and here no more than 64 KiB. */
	uint64_t caps[2] = {up, down};
	for (int i = 0; i < 2; i++) {
		uint64_t n = 4096;
		while (n < (64 << 10) && (caps[i] == 0 || n < caps[i])) n *= 2;
		caps[i] = n;
	}
	char ignored[1];
	for (int i = 0; i < 2; i++) ipc_cut_text(&h, ignored, sizeof ignored);
	for (uint32_t n = ipc_cut32(&h); n && !h.bad; n--) {
		uint64_t numbers[2];
		ipc_cut_text(&h, ignored, sizeof ignored), ipc_cut(&h, numbers, sizeof numbers);
	}
	uint32_t opens = ipc_cut32(&h);
	uint64_t text = strlen(p->description);
	if (!ipc_same_user(c)) refusal = IPC_PERMISSION_DENIED;
	else if (version != ipc_version || layout != ipc_layout) refusal = IPC_INCOMPATIBLE;
	else if (h.bad) refusal = IPC_CORRUPT;
	else if (opens) refusal = IPC_UNIMPLEMENTED; /* a stream, or a topic */
	size_t size = ipc_size(caps[0], caps[1], text);
	if (!refusal) {
		fds[0] = memfd_create("ipcgen", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (fds[0] < 0 || posix_fallocate(fds[0], 0, (off_t)size) ||
		    fcntl(fds[0], F_ADD_SEALS, ipc_size_seals) < 0 ||
		    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bells) < 0 ||
		    ipc_map(c, fds[0], caps[0], caps[1], text)) refusal = IPC_RESOURCE_EXHAUSTED;
	}
	h = (ipc_hello){.n = 0};
	ipc_add32(&h, ipc_magic), ipc_add32(&h, ipc_version), ipc_add32(&h, ipc_layout);
	ipc_add32(&h, refusal);
	if (refusal) { /* zeros, the reason, no names */
		for (int i = 0; i < 5; i++) ipc_add32(&h, 0);
		ipc_add_text(&h, "refused"), ipc_add_text(&h, ""), ipc_add32(&h, 0);
		ipc_add32(&h, 0), ipc_add32(&h, 0);
		(void)ipc_send_hello(c->socket, &h, NULL, 0);
		err = (int)refusal;
		goto failed;
	}
	uint64_t head[5] = {0x6e65676370690001u, ipc_layout, caps[0], caps[1], text};
	memcpy(c->memory, head, sizeof head);
	memcpy((unsigned char *)c->memory + size - text, p->description, text);
	ipc_add32(&h, (uint32_t)caps[0]), ipc_add32(&h, (uint32_t)caps[1]), ipc_add32(&h, (uint32_t)text);
	ipc_add32(&h, c->max_message), ipc_add32(&h, 1024);
	ipc_add_text(&h, ""), ipc_add_text(&h, ""), ipc_add32(&h, 1);
	ipc_add_text(&h, p->name), ipc_add(&h, &p->fingerprint, 8);
	ipc_add32(&h, 0), ipc_add32(&h, (uint32_t)text);
	ipc_add32(&h, 0), ipc_add32(&h, 0); /* no streaming calls */
	c->bell = bells[0];
	fds[1] = bells[1];
	if ((err = ipc_send_hello(c->socket, &h, fds, 2))) goto failed;
	if ((err = ipc_receive_hello(c->socket, &h, NULL, 0))) goto failed;
	if ((err = (int)ipc_cut32(&h))) goto failed; /* the client leaves */
	if ((err = ipc_seal(fds[0], size))) goto failed;
	close(fds[0]), close(fds[1]);
	return IPC_OK;
failed:
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0) close(fds[i]);
	ipc_close(c);
	return err;
}

/* A handler answers a request: it returns a code and, in *reply, a body from malloc, or the text of
 * its error. */
typedef int ipc_handler(void *user, const ipc_message *request, unsigned char **reply, size_t *len);

/* ipc_serve answers the requests of a client, one after the other, until the connection ends. */
static inline int ipc_serve(ipc_conn *c, ipc_handler *handle, void *user) {
	for (;;) {
		ipc_message m = {0};
		int err = ipc_receive(c, 0, &m);
		if (err) return err;
		/* The request is taken: its room was given back before this load. */
		int revoked = ipc_load(&c->in, ipc_revoke) == 1;
		if (m.kind == ipc_request && !revoked) {
			unsigned char *body = NULL;
			size_t len = 0;
			ipc_message a = {.kind = ipc_reply, .id = m.id, .epoch = 0, .method = m.method};
			int code = m.deadline && m.deadline + c->clock <= ipc_now()
			               ? IPC_DEADLINE_EXCEEDED : handle(user, &m, &body, &len);
			if (code) {
				a.kind = ipc_error, a.code = (uint16_t)code;
				a.outcome = code == IPC_DEADLINE_EXCEEDED && !body ? IPC_NOT_EXECUTED : IPC_EXECUTED;
				if (len > 4096) len = 4096;
			}
			err = ipc_send_message(c, &a, body, len, 0);
			free(body);
		} /* a cancel finds its call answered; one-way messages are dropped */
		free(m.body);
		if (err) return err;
	}
}

/* ---- subscribers of topics ---- */

/* A subscription to a topic. Every word of the segment is loaded once, checked, and then used: the
 * publisher may write anything there at any time. */
typedef struct {
	ipc_conn link; /* its socket, doorbell and peer */
	unsigned char *segment, *page;
	size_t size, slots, stride;
	uint64_t depth, longest, count, position, tail, sleeps, lost;
	int latest, gone;
} ipc_topic;

/* What comes with a message. lost is the number of messages before it that this reader missed. */
typedef struct { uint64_t number, lost, epoch, time; size_t len; } ipc_arrival;

enum { ipc_lossy = 0, ipc_latest = 2, ipc_page_size = 256, ipc_topic_index = 512 };

static inline _Atomic uint64_t *ipc_at(unsigned char *memory, size_t offset) {
	return (_Atomic uint64_t *)(void *)(memory + offset);
}

static inline void ipc_unsubscribe(ipc_topic *t) {
	if (t->segment) munmap(t->segment, t->size);
	if (t->page) munmap(t->page, ipc_page_size);
	t->segment = t->page = NULL;
	ipc_close(&t->link);
}

/* ipc_take_topic maps and checks what the publisher has sent: segment and page. */
static inline int ipc_take_topic(ipc_topic *t, const int *fds, uint64_t text) {
	enum { all = ipc_size_seals | ipc_last_seals };
	struct stat st;
	if ((fcntl(fds[0], F_GET_SEALS) & all) != all || !ipc_whole(fds[0], t->size) ||
	    !ipc_whole(fds[1], ipc_page_size) || fstat(fds[1], &st) < 0 ||
	    (fcntl(fds[1], F_GET_SEALS) & ipc_size_seals) != ipc_size_seals) return IPC_CORRUPT;
	void *segment = mmap(NULL, t->size, PROT_READ, MAP_SHARED, fds[0], 0);
	if (segment != MAP_FAILED) t->segment = segment;
	void *page = mmap(NULL, ipc_page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
	if (page != MAP_FAILED) t->page = page;
	if (!t->segment || !t->page) return IPC_RESOURCE_EXHAUSTED;
	uint64_t w[5];
	for (int i = 0; i < 5; i++) w[i] = atomic_load(ipc_at(t->segment, 8 * (size_t)i));
	t->depth = w[2], t->longest = w[3];
	if (w[0] != 0x6e65676370690002 || w[1] != ipc_layout || w[2] < 2 || w[2] > 1 << 16 ||
	    w[3] < 1 || w[3] > 1 << 30 || w[4] > 64) return IPC_CORRUPT;
	t->count = t->depth + 1 + w[4];
	t->slots = ipc_topic_index + ((t->depth * 8 + 127) & ~(size_t)127);
	t->stride = (32 + t->longest + 63) & ~(size_t)63;
	if (t->slots + t->count * t->stride + text != t->size) return IPC_CORRUPT;
	t->position = atomic_load(ipc_at(t->page, 0));
	t->tail = atomic_load(ipc_at(t->segment, 128));
	return t->position > t->tail ? IPC_CORRUPT : ipc_seal(fds[1], ipc_page_size);
}

/* ipc_subscribe subscribes to the topic p of a channel, for copies: ipc_lossy, or ipc_latest for the
 * newest message alone. history is how many messages from before it wants. It does not wait for a
 * publisher, and does not look for the next one when that has ended. */
static inline int ipc_subscribe(ipc_topic *t, const char *domain, const char *channel,
                                const ipc_protocol *p, uint32_t history, int policy) {
	memset(t, 0, sizeof *t);
	t->latest = policy == ipc_latest;
	int fds[3] = {-1, -1, -1};
	ipc_hello h = {.n = 0};
	int err = ipc_meet(&t->link, domain, channel);
	if (err) goto failed;
	ipc_client_hello(&h, channel, p);
	ipc_add32(&h, 2), ipc_add32(&h, 1), ipc_add32(&h, history), ipc_add32(&h, 0);
	ipc_add32(&h, (uint32_t)policy), ipc_add32(&h, 0);
	if ((err = ipc_send_hello(t->link.socket, &h, NULL, 0))) goto failed;
	if ((err = ipc_receive_hello(t->link.socket, &h, fds, 3))) goto failed;
	uint32_t version = ipc_cut32(&h), layout = ipc_cut32(&h), code = ipc_cut32(&h);
	if (code) { err = (int)code; goto failed; }
	err = IPC_INCOMPATIBLE;
	if (version != ipc_version || layout != ipc_layout) goto failed;
	t->size = ipc_cut32(&h);
	uint32_t page = ipc_cut32(&h), text = ipc_cut32(&h);
	(void)ipc_cut32(&h), (void)ipc_cut32(&h);
	int served = ipc_serves(&h, p);
	err = IPC_CORRUPT;
	if (h.bad || page != ipc_page_size || text > ipc_max_text || fds[0] < 0 || fds[1] < 0 ||
	    fds[2] < 0 || (err = ipc_take_topic(t, fds, text))) goto failed;
	if (!served) {
		(void)ipc_verdict(t->link.socket, IPC_INCOMPATIBLE, "the messages have another layout");
		err = IPC_INCOMPATIBLE;
		goto failed;
	}
	if ((err = ipc_verdict(t->link.socket, IPC_OK, ""))) goto failed;
	close(fds[0]), close(fds[1]), t->link.bell = fds[2];
	return IPC_OK;
failed:
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0) close(fds[i]);
	ipc_unsubscribe(t);
	return err;
}

/* ipc_copy copies message number. *got is 0 if it was given up before the copy was complete. */
static inline int ipc_copy(ipc_topic *t, uint64_t number, void *buf, size_t room, ipc_arrival *a,
                           int *got) {
	_Atomic uint64_t *index = ipc_at(t->segment, ipc_topic_index + 8 * (number % t->depth));
	uint64_t entry = atomic_load(index), place = entry & 0xffff;
	*got = 0;
	if (entry >> 16 != number + 1) return IPC_OK;
	if (place >= t->count) return IPC_CORRUPT;
	unsigned char *slot = t->segment + t->slots + place * t->stride;
	a->len = atomic_load(ipc_at(slot, 0)), a->number = atomic_load(ipc_at(slot, 8));
	a->epoch = atomic_load(ipc_at(slot, 16)), a->time = atomic_load(ipc_at(slot, 24));
	int sound = a->len <= t->longest && a->number == number;
	if (sound && a->len <= room) memcpy(buf, slot + 32, a->len);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(index) != entry) return IPC_OK;
	*got = 1;
	return !sound ? IPC_CORRUPT : a->len > room ? IPC_TOO_LARGE : IPC_OK;
}

/* ipc_read waits for the next message until deadline, in nanoseconds of CLOCK_MONOTONIC (0: none),
 * and copies it to buf. It looks at the deadline only where there is no message to copy.
 * IPC_UNAVAILABLE says that the publisher has ended, and that all it has left
 * was read; IPC_TOO_LARGE that the message does not fit, and comes again. */
static inline int ipc_read(ipc_topic *t, int64_t deadline, void *buf, size_t room, ipc_arrival *a) {
	for (;;) {
		uint64_t tail = atomic_load(ipc_at(t->segment, 128));
		if (t->gone) { /* nothing that comes without a connection is read */
			if (t->position >= t->tail) return IPC_UNAVAILABLE;
			tail = t->tail;
		}
		if (tail < t->tail || tail < t->position || tail >= (uint64_t)1 << 48) return IPC_CORRUPT;
		t->tail = tail;
		if (t->position < tail) {
			if (t->latest) t->lost += tail - 1 - t->position, t->position = tail - 1;
			int got, err = ipc_copy(t, t->position, buf, room, a, &got);
			if (err) return err;
			if (got) {
				a->lost = t->lost, t->lost = 0;
				atomic_store(ipc_at(t->page, 0), ++t->position);
				return IPC_OK;
			}
			/* It was given up. The oldest message would soon be, too. A publisher that gives up one
			 * after the other must not keep the reader here. */
			if (deadline && ipc_now() >= deadline) return IPC_DEADLINE_EXCEEDED;
			uint64_t first = atomic_load(ipc_at(t->segment, 136));
			tail = atomic_load(ipc_at(t->segment, 128));
			if (first <= t->position || first > tail) return IPC_CORRUPT;
			t->lost += first + (tail - first) / 2 - t->position;
			t->position = first + (tail - first) / 2;
			continue;
		}
		atomic_store(ipc_at(t->page, 128), ++t->sleeps);
		int err = IPC_OK;
		if (atomic_load(ipc_at(t->segment, 128)) == tail) err = ipc_wait(&t->link, deadline);
		atomic_store(ipc_at(t->page, 128), 0);
		if (err == IPC_UNAVAILABLE) t->gone = 1, t->tail = atomic_load(ipc_at(t->segment, 128));
		else if (err) return err;
	}
}

#endif
