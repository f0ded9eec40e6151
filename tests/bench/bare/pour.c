/* SPDX-License-Identifier: Apache-2.0 */
/* pour MEGABYTES: lines of 100 bytes on standard output, as fast as they are taken. It costs next to nothing itself, so that what
 * is measured is who takes them. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 100, LINES = 640 };

int main(int argc, char **argv)
{
	static char buffer[LINE * LINES];
	long long left = argc > 1 ? atoll(argv[1]) * 1000000 : 0;

	memset(buffer, 'x', sizeof(buffer));
	for (int i = 1; i <= LINES; i++)
		buffer[i * LINE - 1] = '\n';
	while (left > 0) {
		size_t size = left < (long long)sizeof(buffer) ? (size_t)left : sizeof(buffer);

		for (size_t done = 0; done < size;) {
			ssize_t n = write(1, buffer + done, size - done);

			if (n <= 0)
				return 1;
			done += (size_t)n;
		}
		left -= (long long)size;
	}
	return 0;
}
