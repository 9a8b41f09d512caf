/* The messages of examples/greeter/greeter.fbs, by hand: tables with one string each. */
#ifndef GREETER_H
#define GREETER_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* text_table returns a buffer whose root is a table with a string in its first field. */
static unsigned char *text_table(const char *s, size_t n, size_t *len) {
	uint32_t root = 12, field = 4, size = (uint32_t)n;
	uint16_t vtable[4] = {6, 8, 4, 0}; /* its length, that of the table, the field; padding */
	int32_t back = 8;                  /* from the table to the vtable */
	*len = 24 + (n + 4) / 4 * 4;
	unsigned char *b = calloc(1, *len);
	if (!b) return NULL;
	memcpy(b, &root, 4), memcpy(b + 4, vtable, 8), memcpy(b + 12, &back, 4);
	memcpy(b + 16, &field, 4), memcpy(b + 20, &size, 4), memcpy(b + 24, s, n);
	return b;
}

/* text_of finds the string in such a buffer, and checks every step. It returns NULL if the buffer
 * is malformed, and an empty string if the field is absent. */
static const char *text_of(const unsigned char *b, size_t len, uint32_t *n) {
	uint32_t root, at, text;
	int32_t back;
	uint16_t size, offset;
	*n = 0;
	if (len < 8 || (memcpy(&root, b, 4), root > len - 4)) return NULL;
	memcpy(&back, b + root, 4);
	int64_t vtable = (int64_t)root - back;
	if (vtable < 0 || vtable + 4 > (int64_t)len) return NULL;
	memcpy(&size, b + vtable, 2);
	if (size < 6) return "";
	if (vtable + size > (int64_t)len) return NULL;
	memcpy(&offset, b + vtable + 4, 2);
	if (offset == 0) return "";
	if ((uint64_t)root + offset + 4 > len) return NULL;
	at = root + offset;
	memcpy(&text, b + at, 4);
	if ((uint64_t)at + text + 4 > len) return NULL;
	memcpy(n, b + at + text, 4);
	if ((uint64_t)at + text + 4 + *n > len) return NULL;
	return (const char *)b + at + text + 4;
}
#endif
