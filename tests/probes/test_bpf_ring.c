/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The ring's reader, over a ring in ordinary memory that ends at a page nobody may touch: at every
 * place where a record can lie, whole, busy or discarded.
 *
 * Threads: the test's own. Refuses to: need a privilege; test_bpf_load.c reads a real ring.
 */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpf_load.h"

#define RING_BYTES 16384u

static struct cellos_bpf_ring ring;
static char *records_page, *data;
static size_t page;

/* As the kernel maps it: the records twice, one behind the other. */
static void make_ring(void)
{
	int fd = memfd_create("ring", MFD_CLOEXEC);
	char *memory;

	page = (size_t)sysconf(_SC_PAGESIZE);
	cr_assert(fd >= 0 && ftruncate(fd, RING_BYTES) == 0);
	memory = mmap(NULL, 3 * page + 2 * RING_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert(memory != MAP_FAILED);
	records_page = memory + page;
	data = memory + 2 * page;
	for (unsigned lap = 0; lap < 2; lap++)
		cr_assert(mmap(data + lap * RING_BYTES, RING_BYTES, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED);
	cr_assert(mprotect(data + 2 * RING_BYTES, page, PROT_NONE) == 0);
	close(fd);
	ring = (struct cellos_bpf_ring){.fd = -1,
					.bytes = RING_BYTES,
					.consumer = (uint64_t *)(void *)memory,
					.producer = (uint64_t *)(void *)records_page,
					.records = data};
}

TestSuite(ring, .init = make_ring);

static void set_positions(uint64_t consumer, uint64_t producer)
{
	*ring.consumer = consumer;
	memcpy(records_page, &producer, sizeof(producer));
}

static void put_byte(uint64_t position, uint8_t byte)
{
	data[position % RING_BYTES] = (char)byte;
}

/* A header, and `length` bytes that count up from `first`; the position behind it. */
static uint64_t put_record(uint64_t position, uint32_t header, uint32_t length, uint8_t first)
{
	uint32_t words[2] = {header, 0};

	memcpy(data + position % RING_BYTES, words, sizeof(words));
	for (uint32_t at = 0; at < length; at++)
		put_byte(position + 8 + at, (uint8_t)(first + at));
	return position + 8 + (length + 7) / 8 * 8;
}

struct seen {
	unsigned count;
	size_t lengths[512];
	uint8_t first[512];
	bool wrong;
};

static void see(void *context, const void *record, size_t length)
{
	const uint8_t *bytes = record;
	struct seen *seen = context;

	seen->lengths[seen->count] = length;
	seen->first[seen->count] = length > 0 ? bytes[0] : 0;
	seen->count++;
	for (size_t at = 0; at < length; at++)
		seen->wrong |= bytes[at] != (uint8_t)(bytes[0] + at);
}

Test(ring, a_record_at_every_place)
{
	for (uint32_t length = 0; length <= 64; length++)
		for (uint64_t begin = 0; begin < RING_BYTES; begin += 8) {
			struct seen seen = {0};
			uint64_t end = put_record(begin, length, length, (uint8_t)length);

			set_positions(begin, end);
			cr_assert(cellos_bpf_ring_read(&ring, see, &seen) ==
				  (int64_t)(end - begin));
			cr_assert(seen.count == 1 && !seen.wrong && seen.lengths[0] == length);
			cr_assert(length == 0 || seen.first[0] == (uint8_t)length);
			cr_assert(*ring.consumer == end);
			cr_assert(cellos_bpf_ring_read(&ring, see, &seen) == 0);
		}
}

/* Positions are 64-bit and only grow: a full ring that begins anywhere, far beyond the first lap.
 */
Test(ring, a_full_ring)
{
	for (uint64_t begin = 5 * RING_BYTES; begin < 6 * RING_BYTES; begin += 8) {
		struct seen seen = {0};
		uint64_t end = begin;

		while (end + 40 <= begin + RING_BYTES)
			end = put_record(end, 32, 32, (uint8_t)(end / 8));
		set_positions(begin, end);
		cr_assert(cellos_bpf_ring_read(&ring, see, &seen) == (int64_t)(end - begin));
		cr_assert(seen.count == RING_BYTES / 40 && !seen.wrong);
		for (unsigned at = 0; at < seen.count; at++)
			cr_assert(seen.first[at] == (uint8_t)((begin + at * 40ull) / 8));
	}
}

Test(ring, one_being_written_ends_the_round)
{
	struct seen seen = {0};
	uint64_t busy = put_record(0, 16, 16, 1);
	uint64_t after = put_record(busy, 16 | BPF_RINGBUF_BUSY_BIT, 16, 2);
	uint64_t end = put_record(after, 16, 16, 3);

	set_positions(0, end);
	cr_assert(cellos_bpf_ring_read(&ring, see, &seen) == (int64_t)busy);
	cr_assert(seen.count == 1 && *ring.consumer == busy);
	cr_assert(cellos_bpf_ring_read(&ring, see, &seen) == 0);
	cr_assert(seen.count == 1 && *ring.consumer == busy);
	(void)put_record(busy, 16, 16, 2);
	cr_assert(cellos_bpf_ring_read(&ring, see, &seen) == (int64_t)(end - busy));
	cr_assert(seen.count == 3 && seen.first[1] == 2 && seen.first[2] == 3);
}

Test(ring, discarded_ones_are_passed_over)
{
	struct seen seen = {0};
	uint64_t end = put_record(0, 8 | BPF_RINGBUF_DISCARD_BIT, 8, 1);

	set_positions(0, end);
	cr_assert(cellos_bpf_ring_read(&ring, see, &seen) == (int64_t)end);
	end = put_record(end, 24, 24, 9);
	set_positions(*ring.consumer, end);
	cr_assert(cellos_bpf_ring_read(&ring, see, &seen) > 0);
	cr_assert(seen.count == 1 && seen.first[0] == 9 && *ring.consumer == end);
}

static void note_room(void *context, const void *record, size_t length)
{
	uint64_t *before_last = context;

	(void)record;
	(void)length;
	*before_last = *ring.consumer;
}

/* A storm must not have to wait until the reader is through with a whole ring, nor must each record
   cost a store that the kernel's side feels. */
Test(ring, room_comes_back_within_the_round)
{
	for (uint64_t begin = 0; begin < RING_BYTES; begin += 8) {
		uint64_t before_last = begin, end = begin;

		while (end + 40 <= begin + RING_BYTES)
			end = put_record(end, 32, 32, 0);
		set_positions(begin, end);
		cr_assert(cellos_bpf_ring_read(&ring, note_room, &before_last) > 0);
		cr_assert(before_last > begin + RING_BYTES / 2 && before_last < end - 40);
		cr_assert(*ring.consumer == end);
	}
}
