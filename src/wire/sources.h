/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Every source once: what its constants are called, the CBOR head of its name (0x60 and the length,
 * or 0x78 and the length behind it) and that length, which no two names share; encode.c asserts it.
 * Private to this folder.
 */
#ifndef CELLOS_WIRE_SOURCES_H
#define CELLOS_WIRE_SOURCES_H

#define CELLOS_EACH_EVENT(DO)                                                                      \
	DO(PROCESS_SPAWNED, "\x6f", 0x0f)                                                          \
	DO(PROCESS_EXITED, "\x6e", 0x0e)                                                           \
	DO(CAPABILITY_DENIED, "\x71", 0x11)                                                        \
	DO(FS_INOTIFY_FIRED, "\x70", 0x10)                                                         \
	DO(NET_CONNECT_ATTEMPTED, "\x75", 0x15)

#define CELLOS_EACH_SOURCE(DO)                                                                     \
	CELLOS_EACH_EVENT(DO)                                                                      \
	DO(TELEMETRY_DROPPED, "\x78\x2a", 0x2a)                                                    \
	DO(TELEMETRY_HEARTBEAT, "\x78\x2c", 0x2c)

#endif
