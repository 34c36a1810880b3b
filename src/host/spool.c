/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The spool's ring; spool.h says what holds. The order between the two threads is the state's:
 * bytes are read only below an end that was committed behind them, and overwritten only behind an
 * acknowledged position that was stored after they were read.
 */
#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int allocate(struct host_spool *spool, uint64_t bytes)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct stat st;
	int status;

	if (fstat(spool->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size % page != 0)
		return -EPROTO;
	if (st.st_size == 0 && (bytes == 0 || bytes > (uint64_t)INT64_MAX - page))
		return -EINVAL;
	spool->bytes = st.st_size != 0 ? (uint64_t)st.st_size : (bytes + page - 1) / page * page;
	/* The whole size at once: a file cut short in its making is no smaller spool. */
	if (st.st_size == 0 && ftruncate(spool->fd, (off_t)spool->bytes) < 0)
		return -errno;
	/* An old file's blocks too: a hole that finds the disk full is a SIGBUS. */
	status = posix_fallocate(spool->fd, 0, (off_t)spool->bytes);
	return status != 0 ? -status : st.st_size == 0;
}

int host_spool_open(struct host_spool *spool, const char *path, uint64_t bytes)
{
	int result;

	memset(spool, 0, sizeof(*spool));
	spool->fd =
		open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);
	if (spool->fd < 0)
		return -errno;
	result = flock(spool->fd, LOCK_EX | LOCK_NB) < 0 ? -errno : allocate(spool, bytes);
	if (result >= 0) {
		void *memory =
			mmap(NULL, spool->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, spool->fd, 0);

		if (memory == MAP_FAILED)
			result = -errno;
		else
			spool->memory = memory;
	}
	if (result < 0)
		host_spool_close(spool);
	return result;
}

void host_spool_close(struct host_spool *spool)
{
	if (spool->memory != NULL)
		(void)munmap(spool->memory, spool->bytes);
	if (spool->fd >= 0)
		(void)close(spool->fd); /* and with it the lock */
	spool->memory = NULL;
	spool->fd = -1;
}

/* How many of `length` bytes at `position` lie before the ring's end. */
static size_t before_wrap(const struct host_spool *spool, uint64_t position, size_t length)
{
	const uint64_t room = spool->bytes - position % spool->bytes;

	return room < length ? (size_t)room : length;
}

int host_spool_append(struct host_spool *spool, uint64_t acked, uint64_t end, const char *bytes,
		      size_t length)
{
	const size_t head = before_wrap(spool, end, length);

	if (length > spool->bytes || end - acked > spool->bytes - length)
		return -ENOSPC;
	memcpy(spool->memory + end % spool->bytes, bytes, head);
	memcpy(spool->memory, bytes + head, length - head);
	return 0;
}

size_t host_spool_read(const struct host_spool *spool, uint64_t position, uint64_t end, char *out,
		       size_t size)
{
	size_t head;

	if (position >= end)
		return 0;
	if (end - position < size)
		size = (size_t)(end - position);
	head = before_wrap(spool, position, size);
	memcpy(out, spool->memory + position % spool->bytes, head);
	memcpy(out + head, spool->memory, size - head);
	return size;
}
