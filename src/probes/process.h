/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The inside of the process probe: one state, and what its files do for each other.
 *
 *   process.c            which way to see, /proc, and the thread's life
 *   process_connector.c  the kernel's messages: the connector and the exit listener
 *   process_message.c    those, from bytes to numbers, and
 *   proc_parse.c         a line of /proc
 *   process_track.c      what is a process, when it is over, when to tell it under which name
 *
 * Threads: as cellos/probe.h says; one at a time. Refuses to: be seen outside the probe's files.
 */
#ifndef CELLOS_PROCESS_H
#define CELLOS_PROCESS_H

#include <linux/cn_proc.h>

#include "cellos/probe.h"
#include "netlink.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "messages are taken as they stand");

/* How long a spawn waits for the name after exec. */
#define PROCESS_HOLD_NS UINT64_C(20000000)
#define PROCESS_EXIT_RING 512u /* a power of two */
/* More messages than any socket holds, and an end to a flood. */
#define PROCESS_WHOLE_QUEUE (1024u * 1024)

/* PID_MAX_LIMIT on 64-bit kernels: every number is below it. */
#define CELLOS_PID_LIMIT 4194304u

/* Of the kernel's PF_ flags, the two that matter here; field 9 of stat shows them. */
#define CELLOS_PF_FORKNOEXEC 0x00000040u
#define CELLOS_PF_KTHREAD 0x00200000u

struct cellos_proc_stat {
	uint64_t starttime; /* ticks since boot: with the pid, it names one process */
	uint32_t pid;
	uint32_t flags;
	uint32_t num_threads;
	char state;
	uint8_t comm_len; /* 0..15 */
	char comm[16];    /* as the kernel has it: any byte but NUL; then zeros */
};

enum process_stat { STAT_TABLE_FULL, STAT_WALKS, STAT_FORGED, STAT_MALFORMED };

struct process {
	uint64_t starttime;        /* ticks since boot; 0: not known yet */
	uint64_t born_ns;          /* its fork, or shortly before the look that found it */
	uint64_t over_ns;          /* 0: it is not over */
	struct process *next_held; /* set once, for it is held once */
	uint32_t pid;
	uint32_t next;    /* of the chain in the table, or of those not in use */
	uint32_t threads; /* from its fork on; 0: a message was lost, or it is older than we are */
	uint32_t walk;    /* the last that has seen it */
	bool named;       /* by its own name; else by its parent's, or not at all */
	bool execed;      /* since it is known */
	bool walked;      /* found by a walk; the message of its fork may be to come */
	bool kernel;      /* forked by the kernel, and a thread of it unless an exec follows */
	bool held;        /* its spawn is not told yet */
	bool told;        /* its exit is told, or was before our time */
	bool gone;        /* over, and its number is free: forget it once it is told */
	bool leader_gone; /* which alone means nothing */
	uint8_t comm_len;
	char comm[16];
};

/* What the exit listener says of one task. */
struct exit_record {
	uint32_t pid, parent;
	bool last; /* of its thread group; false from kernels that do not tell */
	bool never_execed;
	uint8_t comm_len;
	char comm[16];
};

struct process_state {
	const char *root;             /* borrowed, set before arm by tests; NULL is "/proc" */
	struct cellos_probe_env *env; /* borrowed, from arm on */
	int proc_fd;                  /* owned; -1 while /proc cannot be had */
	bool by_messages;             /* else by walks alone */
	bool in_gap;                  /* the trouble under way is counted already */
	uint64_t walk_ns, walked_ns;  /* when to walk, UINT64_MAX: no need; and the last time */

	struct netlink_socket connector;
	uint64_t ask_ns;          /* when to ask whether the kernel still sends, or UINT64_MAX */
	uint32_t asked, answered; /* numbers of the last question and of the last answer */

	struct netlink_socket exits; /* fd -1: no listener */
	uint16_t family;             /* of its messages */
	uint64_t first, records;     /* of those that ever came: all before `first` are taken */
	struct exit_record ring[PROCESS_EXIT_RING]; /* until asked for; pid 0: taken */

	uint32_t walk;                    /* the number of the last, or of the one under way */
	bool snapshot;                    /* a first walk came to its end */
	bool recovering;                  /* from a loss until the walk that follows it has ended */
	uint32_t max;                     /* entries in the table */
	uint32_t used;                    /* that have ever been */
	uint32_t unused;                  /* the first of those that are free again; 0: none */
	uint32_t *chains;                 /* by pid: the first entry, 0: none */
	uint32_t *roomless;               /* a bit per pid: told as spawned, and not in the table */
	struct process *held, **held_end; /* in the order of their forks */

	_Alignas(8) char listing[16384]; /* of /proc */
	_Alignas(8) char message[2048];
	struct process entries[]; /* 1..max; 0 stands for one that has no room */
};

/* ---- proc_parse.c: pure; *out is written only on success, else it is -EINVAL. */

/* A line of /proc/PID/stat as far as field 22, with a NUL at its end. The name may hold anything,
   also ") R 1 (". */
CELLOS_MUST_CHECK int cellos_proc_parse_stat(const char *line, struct cellos_proc_stat *out);

/* The pid that a directory of /proc is named by; 0 when the name is not one. */
uint32_t cellos_proc_parse_pid(const char *name);

/* ---- process_message.c: the same. */

/* nlmsghdr, cn_msg, and then the proc_event: `what` first. */
#define CONNECTOR_EVENT_AT 36u

/* `ack` is the number given with the question that this answers. */
CELLOS_MUST_CHECK int connector_parse(const void *message, size_t len, struct proc_event *out,
				      uint32_t *ack);
/* The record of one task, in a message of the type `family`. */
CELLOS_MUST_CHECK int exit_record_parse(const void *message, size_t len, uint16_t family,
					struct exit_record *out);
/* The number that the kernel has given to the family. */
CELLOS_MUST_CHECK int exit_family_parse(const void *message, size_t len, uint16_t *family);

/* ---- process_track.c. Time comes with each call. */

size_t process_state_bytes(const struct cellos_probe_options *options);
void process_track_init(struct process_state *s);
/* The kernel's messages, in its order. */
void process_forked(struct process_state *s, uint32_t parent, uint32_t pid, uint32_t tgid,
		    uint64_t ns);
void process_execed(struct process_state *s, uint32_t tgid, uint64_t ns);
void process_exited(struct process_state *s, uint32_t pid, uint32_t tgid, uint64_t ns);
/* Of a walk, which has a number of its own: a process that is there, read after `now`. */
void process_seen(struct process_state *s, const struct cellos_proc_stat *stat, uint64_t now);
/* It came to its end, and the messages that came meanwhile have been taken. */
void process_walk_end(struct process_state *s, uint64_t now);
/* Tells what need not be held any more, all with UINT64_MAX; when to call again. */
uint64_t process_settle(struct process_state *s, uint64_t now);

/* ---- process_connector.c */

/* NULL, or what is missing: all, unless `by_messages` is set then. */
const char *process_connector_arm(struct process_state *s);
void process_connector_close(struct process_state *s);
/* Takes what is there; how many messages, `limit` at most. */
unsigned process_drain(struct process_state *s, unsigned limit);
/* Counts what was lost, and asks whether the kernel still sends when that is due. */
void process_connector_check(struct process_state *s);
/* The record of this task's exit, which the kernel queued before the message of that; false: it was
   lost. */
bool process_exit_record(struct process_state *s, uint32_t pid, struct exit_record *out);

/* ---- process.c */

/* What /proc says of it now: 0, or -errno; -ENOENT or -ESRCH when it is not there. */
CELLOS_MUST_CHECK int process_look(const struct process_state *s, uint32_t pid,
				   struct cellos_proc_stat *out);

#endif
