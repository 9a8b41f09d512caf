/* greet: a client of the greeter. usage: greet domain channel fingerprint milliseconds
 *
 * Each line of standard input is a name. It prints the greeting, or "error <code> <outcome> <text>". */
#include "ipcgen.h"

#include "greeter.h"

int main(int argc, char **argv) {
	if (argc != 5) return 2;
	ipc_protocol p = {"greeter.Greeter", strtoull(argv[3], NULL, 16), ""};
	ipc_conn c;
	int err = ipc_dial(&c, argv[1], argv[2], &p);
	if (err) {
		printf("dial: error %d\n", err);
		return 1;
	}
	uint32_t method = ipc_hash32("greeter.Greeter/Greet");
	int64_t limit = atoll(argv[4]) * 1000000;
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	while ((n = getline(&line, &room, stdin)) > 0) {
		if (line[n - 1] == '\n') n--;
		size_t len;
		uint32_t size = 0;
		unsigned char *body = text_table(line, (size_t)n, &len);
		ipc_message a;
		err = ipc_call(&c, method, body, len, limit ? ipc_now() + limit : 0, &a);
		const char *text = err ? (const char *)a.body : text_of(a.body, a.len, &size);
		if (err) printf("error %d %d %.*s\n", err, a.outcome, (int)a.len, text ? text : "");
		else printf("%.*s\n", (int)size, text ? text : "malformed");
		fflush(stdout);
		free(body), free(a.body);
	}
	free(line);
	ipc_close(&c);
	return 0;
}
