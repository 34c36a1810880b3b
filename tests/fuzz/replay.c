/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Gives each file, and each file of each folder, named on the command line to a fuzz target, once.
 * So the corpus is checked in every build, without a fuzzing compiler, and a crash that a fuzzer
 * wrote to a file can be looked at with a debugger. Each input lies in memory of its exact size,
 * so that AddressSanitizer sees a read beyond it.
 *
 * Exit 0 when every input was taken, 1 when a file cannot be read or a folder holds no input, 2
 * for usage; a target that finds a fault aborts. Folders in folders are not entered.
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

static bool complain(const char *what, const char *path, int error)
{
	fprintf(stderr, "replay: cannot %s %s: %s\n", what, path, strerror(error));
	return false;
}

static bool replay_file(const char *path, long size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *bytes = malloc(size > 0 ? (size_t)size : 1);
	size_t got = 0;
	bool good = file != NULL && bytes != NULL;

	if (good) {
		got = fread(bytes, 1, (size_t)size, file);
		good = got == (size_t)size;
	}
	if (!good) {
		complain("read", path, errno);
	} else {
		/* An empty input is no bytes, not one that may be looked at. */
		LLVMFuzzerTestOneInput(size > 0 ? bytes : NULL, got);
	}
	free(bytes);
	if (file != NULL)
		fclose(file);
	return good;
}

static bool replay_folder(const char *path, unsigned long *count)
{
	DIR *folder = opendir(path);
	struct dirent *entry;
	unsigned long before = *count;
	bool good = folder != NULL;

	if (!good)
		return complain("open", path, errno);
	while (good && (entry = readdir(folder)) != NULL) {
		char name[4096];
		struct stat info;

		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (stat(name, &info) != 0) {
			good = complain("look at", name, errno);
		} else if (S_ISREG(info.st_mode)) {
			good = replay_file(name, (long)info.st_size);
			(*count)++;
		}
	}
	closedir(folder);
	if (good && *count == before)
		return complain("find an input in", path, ENOENT);
	return good;
}

static bool replay(const char *path, unsigned long *count)
{
	struct stat info;

	if (stat(path, &info) != 0)
		return complain("open", path, errno);
	if (S_ISDIR(info.st_mode))
		return replay_folder(path, count);
	(*count)++;
	return replay_file(path, (long)info.st_size);
}

int main(int argc, char **argv)
{
	unsigned long count = 0;

	if (argc < 2) {
		fprintf(stderr, "Usage: %s FILE|FOLDER...\n", argv[0]);
		return 2;
	}
	for (int i = 1; i < argc; i++) {
		if (!replay(argv[i], &count))
			return 1;
	}
	printf("%lu inputs\n", count);
	return 0;
}
