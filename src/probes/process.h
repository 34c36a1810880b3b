/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The inside of the process probe: one state, and what its files do for each other.
 *
 *   process.c         which way to see, and the thread's life
 *   process_track.c   what is a process, when it is over, when to tell it under which name
 *   process_socket.c  the kernel's messages: the connector and the exit listener
 *   process_scan.c    /proc
 *
 * Threads: as cellos/probe.h says; one at a time. Refuses to: be seen outside the probe's files.
 */
#ifndef CELLOS_PROCESS_H
#define CELLOS_PROCESS_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/probe.h"
#include "netlink.h"
#include "proc_parse.h"
#include "process_message.h"

/* How long a report waits for the name after exec. */
#define PROCESS_HOLD_NS UINT64_C(20000000)
#define PROCESS_EXIT_RING 512u /* a power of two */

enum process_stat { STAT_TABLE_FULL, STAT_WALKS, STAT_FORGED, STAT_MALFORMED };

enum process_name {
	NAME_INHERITED, /* its parent's, or its own before exec */
	NAME_UNKNOWN,   /* it has execed, and nothing has told under which name */
	NAME_KNOWN
};

struct process {
	uint64_t starttime; /* ticks since boot; 0: not known yet */
	uint64_t born_ns;   /* its fork, or shortly before the look that found it */
	uint64_t over_ns;   /* 0: it is not over */
	struct process *next_held;
	uint32_t pid;
	uint32_t next;    /* of the chain in the table, or of those that are free */
	uint32_t threads; /* from its fork on; 0: a message was lost, or it is older than we are */
	uint32_t walk;    /* the last that has seen it */
	enum process_name name;
	bool walked;      /* found by a walk; the message of its fork may be to come */
	bool kernel;      /* forked by the kernel, and a thread of it unless an exec follows */
	bool held;        /* its spawn is not told yet */
	bool told;        /* its exit is told, or was before our time */
	bool gone;        /* over, and its number is free: forget it once it is told */
	bool leader_gone; /* which alone means nothing */
	uint8_t comm_len;
	char comm[16];
};

/* Where exits' records wait until the connector's message asks for them. */
struct process_exits {
	struct netlink_socket socket; /* fd -1: no listener */
	uint16_t family;
	uint32_t first, end;                        /* of the ring, modulo its size */
	struct exit_record ring[PROCESS_EXIT_RING]; /* pid 0: taken */
};

struct process_state {
	const char *root;             /* borrowed, set before arm by tests; NULL is "/proc" */
	struct cellos_probe_env *env; /* borrowed, from arm on */
	bool by_messages;             /* else by walks alone */
	int proc_fd;                  /* owned; -1 while /proc cannot be had */
	bool in_gap;                  /* the trouble under way is counted already */
	uint64_t walk_ns;             /* when to walk, UINT64_MAX: no need */
	uint64_t walked_ns;
	struct netlink_socket connector;
	uint64_t ask_ns;          /* when to ask whether the kernel still sends, or UINT64_MAX */
	uint32_t asked, answered; /* numbers of the last question, and of the last answer */
	struct process_exits exits;
	struct process_track {
		uint32_t *chains;      /* by the low bits of the pid: the first entry, 0: none */
		uint32_t *roomless;    /* a bit per pid: told as spawned, and not in the table */
		uint32_t mask;         /* of the chains */
		uint32_t used, unused; /* entries ever used, and the first that is free again */
		struct process *held, **held_end; /* in the order of their forks */
		uint32_t walk;
		bool snapshot;   /* a first walk came to its end */
		bool recovering; /* from a loss until the walk that follows it has ended */
	} track;
	alignas(8) char listing[16384]; /* of /proc */
	alignas(8) char buffer[2048];   /* one message */
	struct process entries[];       /* [0] stands for one that has no room; then the chains */
};

/* ---- process_track.c. Time comes with each call. */

size_t process_track_bytes(uint32_t max);
void process_track_init(struct process_state *state);
/* The kernel's messages, in its order. */
void process_forked(struct process_state *state, uint32_t parent, uint32_t pid, uint32_t tgid,
		    uint64_t ns);
void process_execed(struct process_state *state, uint32_t tgid, uint64_t ns);
void process_exited(struct process_state *state, uint32_t pid, uint32_t tgid, uint64_t ns);
/* Messages were lost: counts of threads are void until a walk has put it right. */
void process_lost(struct process_state *state);
/* A walk: begin, each process that is there, all messages that came meanwhile, end. `stat` was read
   after `now`; NULL: it is there, and cannot be read. */
void process_walk_begin(struct process_state *state);
void process_seen(struct process_state *state, uint32_t pid, const struct cellos_proc_stat *stat,
		  uint64_t now);
/* `complete`: the listing came to its end; `sound`: and nothing in it was unreadable. */
void process_walk_end(struct process_state *state, bool complete, bool sound, uint64_t now);
/* Tells what need not be held any more, all with `now` UINT64_MAX; when to call again. */
uint64_t process_settle(struct process_state *state, uint64_t now);

/* ---- process_socket.c */

/* 0, or -errno. After them, messages of everything that happens wait in the sockets. */
CELLOS_MUST_CHECK int process_connector_open(struct process_state *state);
CELLOS_MUST_CHECK int process_exits_open(struct process_state *state);
/* LISTEN or IGNORE, under a number of its own. */
CELLOS_MUST_CHECK int process_connector_ask(struct process_state *state, uint32_t operation);
/* One message of the kernel's: its length in the buffer, or -errno. */
CELLOS_MUST_CHECK int process_receive(struct process_state *state,
				      const struct netlink_socket *socket);
/* The record of this task's exit, which the kernel queued before the message of that; false: it was
   lost. */
bool process_exit_record(struct process_state *state, uint32_t pid, struct exit_record *out);
/* Reads the listener's socket empty: until then the kernel drops everything, once it has. */
void process_exits_drain(struct process_state *state);

/* ---- process_scan.c */

/* NULL, or why it cannot be used. */
const char *process_proc_open(struct process_state *state);
void process_proc_close(struct process_state *state);
/* What /proc says of it now: 0, or -errno; -ENOENT or -ESRCH when it is not there. */
CELLOS_MUST_CHECK int process_look(const struct process_state *state, uint32_t pid,
				   struct cellos_proc_stat *out);
/* Hands every process to process_seen; true when the listing came to its end. */
bool process_list(struct process_state *state, bool *sound);

#endif
