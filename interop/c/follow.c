/* follow: a subscriber of a topic. usage: follow domain channel name fingerprint history
 * policy ms; ms is how long it reads.
 *
 * It prints "ready", and for each message its number, how many were lost before it, its length and
 * the sum of its bytes; in the end, "error <code>". */
#include "ipcgen.h"

int main(int argc, char **argv) {
	if (argc != 8) return 2;
	ipc_protocol p = {argv[3], strtoull(argv[4], NULL, 16), ""};
	ipc_topic t;
	int err = ipc_subscribe(&t, argv[1], argv[2], &p, (uint32_t)atoi(argv[5]), atoi(argv[6]));
	if (err) {
		printf("subscribe: error %d\n", err);
		return 1;
	}
	printf("ready\n"), fflush(stdout);
	static unsigned char buf[4096];
	ipc_arrival a;
	int64_t end = ipc_now() + atoll(argv[7]) * 1000000;
	while (!(err = ipc_read(&t, end, buf, sizeof buf, &a))) {
		unsigned sum = 0;
		for (size_t i = 0; i < a.len; i++) sum += buf[i];
		printf("%llu %llu %zu %u\n", (unsigned long long)a.number, (unsigned long long)a.lost,
		       a.len, sum);
		fflush(stdout);
	}
	printf("error %d\n", err);
	ipc_unsubscribe(&t);
	return 0;
}
