// A bare loop of posix_spawn: what a request to a forking function cannot be
// cheaper than. Each worker spawns cat with pipes at both ends, writes a body,
// reads it back until the end, and waits for the process.
//
//	spawn workers seconds body    prints how many a second
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static atomic_long calls;
static const char *body;
static double end;

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) {
	perror(what);
	exit(1);
}

static void *work(void *unused) {
	char *argv[] = {"cat", NULL}, buffer[4096];
	size_t length = strlen(body);
	while (now() < end) {
		int in[2], out[2], status;
		pid_t pid;
		posix_spawn_file_actions_t actions;
		if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) fail("pipe2");
		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_adddup2(&actions, in[0], 0);
		posix_spawn_file_actions_adddup2(&actions, out[1], 1);
		if (posix_spawnp(&pid, "cat", &actions, NULL, argv, environ)) fail("posix_spawnp");
		posix_spawn_file_actions_destroy(&actions);
		close(in[0]);
		close(out[1]);
		if (write(in[1], body, length) != (ssize_t)length) fail("write");
		close(in[1]);
		size_t got = 0;
		ssize_t n;
		while ((n = read(out[0], buffer, sizeof buffer)) > 0) got += n;
		close(out[0]);
		if (waitpid(pid, &status, 0) != pid || status != 0 || got != length) fail("cat");
		calls++;
	}
	return NULL;
}

int main(int argc, char **argv) {
	if (argc != 4) return 2;
	int workers = atoi(argv[1]);
	double seconds = atof(argv[2]), start = now();
	body = argv[3];
	end = start + seconds;
	pthread_t threads[workers];
	for (int i = 0; i < workers; i++)
		if (pthread_create(&threads[i], NULL, work, NULL)) fail("pthread_create");
	for (int i = 0; i < workers; i++) pthread_join(threads[i], NULL);
	printf("%f\n", calls / (now() - start));
}
