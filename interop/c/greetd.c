/* greetd: a server of the greeter. usage: greetd domain channel fingerprint description
 *
 * It serves one client after the other, until standard input ends. */
#include "ipcgen.h"

#include "greeter.h"
#include <signal.h>

static int greet(void *user, const ipc_message *m, unsigned char **reply, size_t *len) {
	(void)user;
	uint32_t n;
	const char *name = text_of(m->body, m->len, &n);
	const char *why = NULL;
	int code = IPC_OK;
	if (m->method != ipc_hash32("greeter.Greeter/Greet")) code = IPC_UNIMPLEMENTED, why = "no such method";
	else if (!name) code = IPC_CORRUPT, why = "malformed request";
	else if (n == 0) code = IPC_INVALID_ARGUMENT, why = "whom shall I greet?";
	if (why) {
		*reply = (unsigned char *)strdup(why), *len = strlen(why);
		return code;
	}
	char *text = malloc((size_t)n + 9);
	if (!text) return IPC_RESOURCE_EXHAUSTED;
	memcpy(text, "Hello, ", 7), memcpy(text + 7, name, n), text[7 + n] = '!';
	*reply = text_table(text, (size_t)n + 8, len);
	free(text);
	return *reply ? IPC_OK : IPC_RESOURCE_EXHAUSTED;
}

static ipc_listener listener;

static void leave(int sig) {
	(void)sig;
	ipc_unlisten(&listener);
	_exit(0);
}

int main(int argc, char **argv) {
	if (argc != 5) return 2;
	ipc_protocol p = {"greeter.Greeter", strtoull(argv[3], NULL, 16), argv[4]};
	int err = ipc_listen(&listener, argv[1], argv[2]);
	if (err) {
		printf("listen: error %d\n", err);
		return 1;
	}
	signal(SIGTERM, leave);
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		ipc_conn c;
		err = ipc_accept(&c, &listener, &p);
		if (err) {
			printf("accept: error %d\n", err);
			fflush(stdout);
			continue;
		}
		err = ipc_serve(&c, greet, NULL);
		printf("client gone: %d\n", err);
		fflush(stdout);
		ipc_close(&c);
	}
}
