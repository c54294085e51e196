/*
 * powercut: keeps beside a live directory the image of what a power cut would leave of it.
 *
 * Preloaded into a process (LD_PRELOAD), it watches the files below POWERCUT_DIR. What is written goes to the live files as
 * ever; into POWERCUT_IMAGE goes only what was synced: a file's bytes on fsync, fdatasync, msync or an O_SYNC write, and a
 * directory's entries (creations, renames, removals) on fsync of that directory. So "the power is cut" is: kill -9, then
 * start again on the image. Whatever was not synced is not there, which kill -9 alone can never show: the kernel keeps
 * the written pages of a killed process.
 *
 * Rules, a little stricter than ext4:
 *  - fsync of a file also makes the entry durable under which the file was *created* (and the directories above it), not a
 *    later rename;
 *  - sync_file_range makes nothing durable; sync and syncfs make everything durable;
 *  - after a failed fsync the bytes it was asked for are lost for good, as on Linux, whatever a later fsync says;
 *  - what was in the directory before the first process with this image started is durable.
 *
 * How: files are known by inode. Each has a shadow in POWERCUT_IMAGE.inodes/, and an entry of the image is a hard link to
 * it, so that data and names become durable apart from each other. Directory entries are compared at the time of the sync,
 * so that calls which go around libc (rustix renames) are seen too; and a file that is longer or newer than the writes
 * that were seen explain is copied whole.
 *
 * Faults: when the file that POWERCUT_FAULT names exists, its first word says what fails: "fsync" (EIO) or "write"
 * (ENOSPC, also for truncation and allocation), or "stall" (a sync waits until the file is gone), below the live
 * directory only.
 *
 * Not covered: io_uring, stdio streams, 32-bit systems.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define END INT64_MAX
#define BUCKETS 4096

struct ident {
	uint64_t dev, ino;
	int64_t born_s, mtime_s, size;
	uint32_t born_ns, mtime_ns, mode;
};

/* A regular file: below the live directory (ours) or known not to be. */
struct file {
	struct file *next;
	uint64_t dev, ino;
	int64_t born_s;
	uint32_t born_ns;
	int ours, mapped;
	char *created;         /* path below the live directory, when the creation was seen */
	pthread_mutex_t state; /* dirty range; held across writes that move the file offset */
	pthread_mutex_t copy;  /* one sync of a file at a time */
	int64_t lo, hi;        /* written since the last sync: one range that covers all of it */
	int64_t size;          /* at the last sync */
	int64_t mtime_s;       /* at the last sync */
	uint32_t mtime_ns;
};

static char live[PATH_MAX], image[PATH_MAX], inodes[PATH_MAX];
static const char *fault_file;
static size_t live_len;
static struct file *table[BUCKETS];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static int on;

#define REAL(ret, name, ...)                                              \
	static ret (*real_##name)(__VA_ARGS__);                           \
	if (!real_##name)                                                 \
		real_##name = (ret(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void die(const char *what, const char *path)
{
	/* A wrong image would let a test pass or fail for a false reason: stop the process instead. */
	dprintf(2, "powercut: %s %s: %s\n", what, path, strerror(errno));
	abort();
}

static void join(char *out, const char *a, const char *b)
{
	if (snprintf(out, PATH_MAX, *b ? "%s/%s" : "%s%s", a, b) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		die("join", a);
	}
}

/* ---- the real calls that this file itself uses ---- */

static int sys_open(const char *path, int flags, mode_t mode)
{
	REAL(int, open, const char *, int, ...);
	return real_open(path, flags | O_CLOEXEC, mode);
}
static ssize_t sys_pwrite(int fd, const void *b, size_t n, off_t at)
{
	REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
	return real_pwrite(fd, b, n, at);
}
static int sys_ftruncate(int fd, off_t n)
{
	REAL(int, ftruncate, int, off_t);
	return real_ftruncate(fd, n);
}

/* ---- which file is it ---- */

static int identify(int fd, const char *path, struct ident *id)
{
	struct statx x;
	unsigned want = STATX_BASIC_STATS | STATX_BTIME;
	if (statx(fd, path, AT_SYMLINK_NOFOLLOW | (*path ? 0 : AT_EMPTY_PATH), want, &x) != 0)
		return -1;
	id->dev = makedev(x.stx_dev_major, x.stx_dev_minor);
	id->ino = x.stx_ino;
	id->born_s = x.stx_mask & STATX_BTIME ? x.stx_btime.tv_sec : 0;
	id->born_ns = x.stx_mask & STATX_BTIME ? x.stx_btime.tv_nsec : 0;
	id->mtime_s = x.stx_mtime.tv_sec;
	id->mtime_ns = x.stx_mtime.tv_nsec;
	id->size = (int64_t)x.stx_size;
	id->mode = x.stx_mode;
	return 0;
}

/* The path of a descriptor below the live directory ("" for the directory itself), or NULL. */
static const char *below_live(int fd, char *buf)
{
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, buf, PATH_MAX - 1);
	if (n <= 0)
		return NULL;
	buf[n] = 0;
	if (strncmp(buf, live, live_len) != 0)
		return NULL;
	if (buf[live_len] == 0)
		return buf + live_len;
	return buf[live_len] == '/' ? buf + live_len + 1 : NULL;
}

static void shadow_path(char *out, const struct file *f)
{
	snprintf(out, PATH_MAX, "%s/%llu-%lld.%u", inodes, (unsigned long long)f->ino, (long long)f->born_s, f->born_ns);
}

static struct file *lookup(const struct ident *id, int ours, int *fresh)
{
	struct file **slot = &table[(id->ino ^ id->ino >> 12) % BUCKETS], *f;
	pthread_mutex_lock(&table_lock);
	for (f = *slot; f; f = f->next)
		if (f->ino == id->ino && f->dev == id->dev && f->born_s == id->born_s && f->born_ns == id->born_ns)
			break;
	*fresh = !f && ours >= 0;
	if (*fresh) {
		f = calloc(1, sizeof *f);
		if (!f)
			die("calloc", "");
		f->dev = id->dev, f->ino = id->ino, f->born_s = id->born_s, f->born_ns = id->born_ns;
		f->ours = ours;
		f->lo = END;
		pthread_mutex_init(&f->state, NULL);
		pthread_mutex_init(&f->copy, NULL);
		f->next = *slot;
		*slot = f;
	}
	pthread_mutex_unlock(&table_lock);
	return f;
}

static void mark(struct file *f, int64_t lo, int64_t hi)
{
	f->lo = lo < f->lo ? lo : f->lo;
	f->hi = hi > f->hi ? hi : f->hi;
}

/* The watched file behind a descriptor, or NULL. A file first met here is wholly dirty. Keeps errno. */
static struct file *watched(int fd, struct ident *id)
{
	int fresh, saved = errno;
	struct file *f = NULL;
	if (on && identify(fd, "", id) == 0 && S_ISREG(id->mode)) {
		f = lookup(id, -1, &fresh);
		if (!f) {
			char buf[PATH_MAX];
			f = lookup(id, below_live(fd, buf) != NULL, &fresh);
			if (fresh && f->ours)
				mark(f, 0, END);
		}
		if (!f->ours)
			f = NULL;
	}
	errno = saved;
	return f;
}

/* ---- what fails on demand ---- */

static int faulty(const char *what)
{
	char word[16] = {0};
	int fd, saved = errno;
	if (!fault_file)
		return 0;
	fd = sys_open(fault_file, O_RDONLY, 0);
	if (fd >= 0) {
		if (read(fd, word, sizeof word - 1) < 0)
			word[0] = 0;
		close(fd);
	}
	errno = saved;
	return strncmp(word, what, strlen(what)) == 0;
}

/* A disk that does not answer: holds the caller back for as long as the fault lasts. */
static void stall(void)
{
	struct timespec pause = { 0, 2 * 1000 * 1000 };
	while (faulty("stall"))
		nanosleep(&pause, NULL);
}

static int write_fails(struct file *f)
{
	if (!f || !faulty("write"))
		return 0;
	errno = ENOSPC;
	return 1;
}

/* ---- making bytes durable ---- */

static void copy_range(int from, int to, int64_t lo, int64_t hi, int64_t had)
{
	char buf[1 << 14];
	while (lo < hi) {
		size_t want = hi - lo < (int64_t)sizeof buf ? (size_t)(hi - lo) : sizeof buf;
		ssize_t n = pread(from, buf, want, lo);
		if (n < 0)
			die("read", live);
		if (n == 0)
			return; /* became shorter meanwhile */
		/* Space allocated ahead stays a hole: beyond what the shadow had, zeros are there already. */
		int zero = lo >= had && buf[0] == 0 && memcmp(buf, buf + 1, n - 1) == 0;
		for (ssize_t done = 0; !zero && done < n;) {
			ssize_t w = sys_pwrite(to, buf + done, n - done, lo + done);
			if (w < 0)
				die("write", image);
			done += w;
		}
		lo += n;
	}
}

static void make_parents(const char *rel)
{
	char path[PATH_MAX];
	join(path, image, rel);
	for (char *p = path + strlen(image) + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		if (mkdir(path, 0700) != 0 && errno != EEXIST)
			die("mkdir", path);
		*p = '/';
	}
}

static int same_inode(const char *a, const char *b)
{
	struct stat x, y;
	return lstat(a, &x) == 0 && lstat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* Puts the shadow into the image under `rel`, in place of whatever was there. */
static void enter(const char *shadow, const char *rel)
{
	char dest[PATH_MAX], tmp[PATH_MAX];
	join(dest, image, rel);
	if (same_inode(shadow, dest))
		return;
	join(tmp, inodes, "entering");
	unlink(tmp);
	if (link(shadow, tmp) != 0)
		die("link", shadow);
	if (rename(tmp, dest) != 0)
		die("rename", dest);
}

/* Copies [lo, hi) of the live file into its shadow, and gives it an entry if it has none yet. */
static void persist(struct file *f, int fd, int64_t lo, int64_t hi)
{
	char shadow[PATH_MAX], proc[64], buf[PATH_MAX];
	struct stat was, now;
	shadow_path(shadow, f);
	snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
	int from = sys_open(proc, O_RDONLY, 0);
	if (from < 0 || fstat(from, &now) != 0)
		die("open", proc);
	int to = sys_open(shadow, O_RDWR | O_CREAT, 0600);
	if (to < 0 || fstat(to, &was) != 0)
		die("open", shadow);
	fchmod(to, now.st_mode & 07777);
	if (was.st_size != now.st_size && sys_ftruncate(to, now.st_size) != 0)
		die("truncate", shadow);
	copy_range(from, to, lo, hi < now.st_size ? hi : now.st_size, was.st_size);
	close(to);
	close(from);
	pthread_mutex_lock(&names_lock);
	if (was.st_nlink <= 1 && now.st_nlink > 0) {
		const char *rel = f->created ? f->created : below_live(fd, buf);
		if (rel && *rel) {
			make_parents(rel);
			enter(shadow, rel);
		}
	}
	pthread_mutex_unlock(&names_lock);
}

/* One sync of a file: `real` flushes the live one. Its answer is the caller's. */
static int sync_file(struct file *f, int fd, const struct ident *id, int (*real)(int))
{
	stall();
	int result, failing = faulty("fsync");
	pthread_mutex_lock(&f->copy);
	pthread_mutex_lock(&f->state);
	int64_t lo = f->lo, hi = f->hi;
	int unexplained = lo >= hi && (f->mtime_s != id->mtime_s || f->mtime_ns != id->mtime_ns);
	if (id->size > f->size) /* longer than seen writes explain: the new part in any case */
		lo = f->size < lo ? f->size : lo, hi = hi > id->size ? hi : id->size;
	if (f->mapped || unexplained)
		lo = 0, hi = END;
	f->lo = END, f->hi = 0;
	f->size = id->size, f->mtime_s = id->mtime_s, f->mtime_ns = id->mtime_ns;
	pthread_mutex_unlock(&f->state);
	if (failing)
		result = -1, errno = EIO;
	else
		result = real ? real(fd) : 0;
	int saved = errno;
	if (result == 0)
		persist(f, fd, lo, hi);
	errno = saved;
	pthread_mutex_unlock(&f->copy);
	return result;
}

/* ---- making names durable ---- */

static void remove_tree(const char *path)
{
	struct stat st;
	if (lstat(path, &st) != 0)
		return;
	if (S_ISDIR(st.st_mode)) {
		DIR *d = opendir(path);
		char child[PATH_MAX];
		for (struct dirent *e; d && (e = readdir(d));)
			if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) {
				join(child, path, e->d_name);
				remove_tree(child);
			}
		if (d)
			closedir(d);
		rmdir(path);
	} else
		unlink(path);
}

/* A directory of the live tree exists in the image under its present name; one that was renamed is moved there. */
static void enter_directory(const struct ident *id, const char *rel)
{
	char note[PATH_MAX], was[PATH_MAX] = "", old[PATH_MAX], dest[PATH_MAX];
	struct stat st;
	snprintf(note, sizeof note, "%s/d%llu-%lld.%u", inodes, (unsigned long long)id->ino, (long long)id->born_s, id->born_ns);
	ssize_t n = readlink(note, was, sizeof was - 1);
	was[n > 0 ? n : 0] = 0;
	join(dest, image, rel);
	if (n > 0 && strcmp(was, rel)) {
		join(old, image, was);
		if (lstat(old, &st) == 0 && lstat(dest, &st) != 0 && rename(old, dest) != 0)
			die("rename", dest);
	}
	if (mkdir(dest, 0700) != 0 && errno != EEXIST)
		die("mkdir", dest);
	unlink(note);
	if (symlink(rel, note) != 0)
		die("symlink", note);
}

static void enter_child(const char *rel)
{
	struct ident id;
	char path[PATH_MAX], shadow[PATH_MAX];
	int fresh, fd;
	join(path, live, rel);
	if (identify(AT_FDCWD, path, &id) != 0)
		return; /* gone meanwhile */
	if (S_ISDIR(id.mode)) {
		enter_directory(&id, rel);
	} else if (S_ISREG(id.mode)) {
		struct file *f = lookup(&id, 1, &fresh);
		if (fresh)
			mark(f, 0, END);
		shadow_path(shadow, f);
		fd = sys_open(shadow, O_RDWR | O_CREAT, 0600); /* a durable name without durable bytes */
		if (fd < 0)
			die("open", shadow);
		close(fd);
		enter(shadow, rel);
	}
}

static void sync_names(const char *rel)
{
	char path[PATH_MAX], there[PATH_MAX], child[PATH_MAX];
	struct stat st;
	struct dirent *e;
	pthread_mutex_lock(&names_lock);
	join(path, live, rel);
	DIR *d = opendir(path);
	if (!d) {
		pthread_mutex_unlock(&names_lock);
		return;
	}
	if (*rel)
		make_parents(rel);
	join(path, image, rel);
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		die("mkdir", path);
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) {
			if (*rel)
				join(child, rel, e->d_name);
			else
				strcpy(child, e->d_name);
			enter_child(child);
		}
	closedir(d);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) {
			join(child, live, rel);
			join(there, child, e->d_name);
			if (lstat(there, &st) != 0 && errno == ENOENT) {
				join(child, path, e->d_name);
				remove_tree(child);
			}
		}
	if (d)
		closedir(d);
	pthread_mutex_unlock(&names_lock);
}

/* Everything below `rel`: sync(2), syncfs(2), and what is there at the start. */
static void sync_all(const char *rel)
{
	char path[PATH_MAX], child[PATH_MAX];
	struct ident id;
	sync_names(rel);
	join(path, live, rel);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (*rel)
			join(child, rel, e->d_name);
		else
			strcpy(child, e->d_name);
		join(path, live, child);
		if (identify(AT_FDCWD, path, &id) != 0)
			continue;
		if (S_ISDIR(id.mode))
			sync_all(child);
		int fd = S_ISREG(id.mode) ? sys_open(path, O_RDONLY | O_NOFOLLOW, 0) : -1;
		struct file *f = fd >= 0 ? watched(fd, &id) : NULL;
		if (f)
			sync_file(f, fd, &id, NULL);
		if (fd >= 0)
			close(fd);
	}
	if (d)
		closedir(d);
}

/* ---- start ---- */

static int resolve(const char *path, char *out)
{
	char parent[PATH_MAX], real[PATH_MAX], *slash;
	if (realpath(path, out))
		return 0;
	if (strlen(path) >= sizeof parent)
		return -1;
	strcpy(parent, path);
	while ((slash = strrchr(parent, '/')) && slash[1] == 0 && slash != parent)
		*slash = 0;
	const char *name = slash ? slash + 1 : parent;
	if (slash == parent)
		strcpy(real, "/");
	else if (!realpath(slash ? (*slash = 0, parent) : ".", real))
		return -1;
	join(out, real, name);
	return 0;
}

__attribute__((constructor)) static void start(void)
{
	const char *dir = getenv("POWERCUT_DIR"), *to = getenv("POWERCUT_IMAGE");
	struct stat st;
	if (!dir || !to)
		return;
	if (resolve(dir, live) != 0)
		die("POWERCUT_DIR", dir);
	if (resolve(to, image) != 0)
		die("POWERCUT_IMAGE", to);
	live_len = strlen(live);
	fault_file = getenv("POWERCUT_FAULT");
	snprintf(inodes, sizeof inodes, "%.*s.inodes", PATH_MAX - 16, image);
	if (mkdir(image, 0700) != 0 && errno != EEXIST)
		die("mkdir", image);
	int first = mkdir(inodes, 0700) == 0;
	if (!first && errno != EEXIST)
		die("mkdir", inodes);
	on = 1;
	if (first && stat(live, &st) == 0)
		sync_all("");
}

/* ---- the calls that are watched ---- */

static int opened(int fd, int flags)
{
	struct ident id;
	int fresh, saved = errno;
	char buf[PATH_MAX];
	if (!on || fd < 0 || !(flags & (O_CREAT | O_TRUNC)) || identify(fd, "", &id) != 0 || !S_ISREG(id.mode))
		goto out;
	const char *rel = below_live(fd, buf);
	if (!rel)
		goto out;
	struct file *f = lookup(&id, 1, &fresh);
	pthread_mutex_lock(&f->state);
	if (fresh && flags & O_CREAT && id.size == 0)
		f->created = strdup(rel);
	else if (fresh)
		mark(f, 0, END);
	if (flags & O_TRUNC)
		mark(f, 0, END);
	pthread_mutex_unlock(&f->state);
out:
	errno = saved;
	return fd;
}

#define MODE(flags, last)                              \
	mode_t mode = 0;                               \
	if ((flags) & (O_CREAT | O_TMPFILE)) {         \
		va_list ap;                            \
		va_start(ap, last);                    \
		mode = va_arg(ap, unsigned);           \
		va_end(ap);                            \
	}
#define OPEN(name)                                                        \
	int name(const char *path, int flags, ...)                        \
	{                                                                 \
		REAL(int, name, const char *, int, ...);                  \
		MODE(flags, flags)                                        \
		return opened(real_##name(path, flags, mode), flags);     \
	}
#define OPENAT(name)                                                      \
	int name(int dir, const char *path, int flags, ...)               \
	{                                                                 \
		REAL(int, name, int, const char *, int, ...);             \
		MODE(flags, flags)                                        \
		return opened(real_##name(dir, path, flags, mode), flags); \
	}
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open64(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* A write through a descriptor with O_SYNC or O_DSYNC is durable when it answers. */
static ssize_t written(struct file *f, int fd, ssize_t n)
{
	struct ident id;
	int saved = errno, flags = fcntl(fd, F_GETFL);
	if (n > 0 && flags >= 0 && flags & (O_SYNC | O_DSYNC) && identify(fd, "", &id) == 0 && sync_file(f, fd, &id, NULL) != 0)
		return -1;
	errno = saved;
	return n;
}

/* Writes at the file offset: the lock keeps the offset that is read afterwards that of this write. */
#define WRITE_AT_OFFSET(call)                                             \
	struct ident id;                                                  \
	struct file *f = watched(fd, &id);                                \
	if (!f)                                                           \
		return call;                                              \
	if (write_fails(f))                                               \
		return -1;                                                \
	pthread_mutex_lock(&f->state);                                    \
	ssize_t n = call;                                                 \
	int saved = errno;                                                \
	off_t end = n > 0 ? lseek(fd, 0, SEEK_CUR) : 0;                   \
	if (n > 0)                                                        \
		mark(f, end - n, end);                                    \
	errno = saved;                                                    \
	pthread_mutex_unlock(&f->state);                                  \
	return written(f, fd, n)
/* Writes at a given place. With O_APPEND Linux appends all the same, so the end of the file is marked as well. */
#define WRITE_AT(at, call)                                                \
	struct ident id;                                                  \
	struct file *f = watched(fd, &id);                                \
	if (!f)                                                           \
		return call;                                              \
	if (write_fails(f))                                               \
		return -1;                                                \
	ssize_t n = call;                                                 \
	if (n > 0) {                                                      \
		pthread_mutex_lock(&f->state);                            \
		mark(f, (at) < id.size ? (at) : id.size, (at) + n);       \
		pthread_mutex_unlock(&f->state);                          \
	}                                                                 \
	return written(f, fd, n)

ssize_t write(int fd, const void *b, size_t len)
{
	REAL(ssize_t, write, int, const void *, size_t);
	WRITE_AT_OFFSET(real_write(fd, b, len));
}
ssize_t writev(int fd, const struct iovec *v, int count)
{
	REAL(ssize_t, writev, int, const struct iovec *, int);
	WRITE_AT_OFFSET(real_writev(fd, v, count));
}
#define PWRITE(name)                                                      \
	ssize_t name(int fd, const void *b, size_t len, off_t at)         \
	{                                                                 \
		REAL(ssize_t, name, int, const void *, size_t, off_t);    \
		WRITE_AT(at, real_##name(fd, b, len, at));                \
	}
#define PWRITEV(name)                                                     \
	ssize_t name(int fd, const struct iovec *v, int count, off_t at)  \
	{                                                                 \
		REAL(ssize_t, name, int, const struct iovec *, int, off_t); \
		WRITE_AT(at, real_##name(fd, v, count, at));              \
	}
PWRITE(pwrite)
PWRITE(pwrite64)
PWRITEV(pwritev)
PWRITEV(pwritev64)
#define PWRITEV2(name)                                                               \
	ssize_t name(int fd, const struct iovec *v, int count, off_t at, int flags)  \
	{                                                                            \
		REAL(ssize_t, name, int, const struct iovec *, int, off_t, int);     \
		if (at == -1) {                                                      \
			WRITE_AT_OFFSET(real_##name(fd, v, count, at, flags));       \
		}                                                                    \
		WRITE_AT(at, real_##name(fd, v, count, at, flags));                  \
	}
PWRITEV2(pwritev2)
PWRITEV2(pwritev64v2)

/* Calls after which a part of the file, or all of it, counts as written. */
#define CHANGES(ret, failed, f, from, to, call)                           \
	struct ident id;                                                  \
	struct file *f = watched(fd, &id);                                \
	if (write_fails(f))                                               \
		return failed;                                            \
	ret r = call;                                                     \
	if (f && r != -1) {                                               \
		pthread_mutex_lock(&f->state);                            \
		mark(f, from, to);                                        \
		pthread_mutex_unlock(&f->state);                          \
	}                                                                 \
	return r

#define FTRUNCATE(name)                                                   \
	int name(int fd, off_t len)                                       \
	{                                                                 \
		REAL(int, name, int, off_t);                              \
		CHANGES(int, -1, f, len < id.size ? len : id.size, END, real_##name(fd, len)); \
	}
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)
#define TRUNCATE(name, through)                                           \
	int name(const char *path, off_t len)                             \
	{                                                                 \
		int fd = sys_open(path, O_WRONLY, 0);                     \
		if (fd < 0)                                               \
			return -1;                                        \
		int r = through(fd, len), saved = errno;                  \
		close(fd);                                                \
		errno = saved;                                            \
		return r;                                                 \
	}
TRUNCATE(truncate, ftruncate)
TRUNCATE(truncate64, ftruncate64)
#define FALLOCATE(name)                                                   \
	int name(int fd, int mode, off_t at, off_t len)                   \
	{                                                                 \
		REAL(int, name, int, int, off_t, off_t);                  \
		CHANGES(int, -1, f, at, END, real_##name(fd, mode, at, len)); \
	}
FALLOCATE(fallocate)
FALLOCATE(fallocate64)
#define POSIX_FALLOCATE(name)                                             \
	int name(int fd, off_t at, off_t len)                             \
	{                                                                 \
		REAL(int, name, int, off_t, off_t);                       \
		CHANGES(int, ENOSPC, f, at, END, real_##name(fd, at, len)); \
	}
POSIX_FALLOCATE(posix_fallocate)
POSIX_FALLOCATE(posix_fallocate64)
ssize_t copy_file_range(int in, off_t *in_at, int fd, off_t *at, size_t len, unsigned flags)
{
	REAL(ssize_t, copy_file_range, int, off_t *, int, off_t *, size_t, unsigned);
	CHANGES(ssize_t, -1, f, 0, END, real_copy_file_range(in, in_at, fd, at, len, flags));
}
ssize_t splice(int in, off_t *in_at, int fd, off_t *at, size_t len, unsigned flags)
{
	REAL(ssize_t, splice, int, off_t *, int, off_t *, size_t, unsigned);
	CHANGES(ssize_t, -1, f, 0, END, real_splice(in, in_at, fd, at, len, flags));
}
#define SENDFILE(name)                                                    \
	ssize_t name(int fd, int in, off_t *at, size_t len)               \
	{                                                                 \
		REAL(ssize_t, name, int, int, off_t *, size_t);           \
		CHANGES(ssize_t, -1, f, 0, END, real_##name(fd, in, at, len)); \
	}
SENDFILE(sendfile)
SENDFILE(sendfile64)

/* What is written through a shared mapping is not seen: such a file is copied whole at every sync. */
#define MMAP(name)                                                        \
	void *name(void *a, size_t len, int prot, int flags, int fd, off_t at) \
	{                                                                 \
		REAL(void *, name, void *, size_t, int, int, int, off_t); \
		void *r = real_##name(a, len, prot, flags, fd, at);       \
		struct ident id;                                          \
		if (r != MAP_FAILED && fd >= 0 && (flags & MAP_TYPE) != MAP_PRIVATE && prot & PROT_WRITE) { \
			struct file *f = watched(fd, &id);                \
			if (f)                                            \
				f->mapped = 1;                            \
		}                                                         \
		return r;                                                 \
	}
MMAP(mmap)
MMAP(mmap64)

#define SYNC(name)                                                        \
	int name(int fd)                                                  \
	{                                                                 \
		REAL(int, name, int);                                     \
		struct ident id;                                          \
		char buf[PATH_MAX];                                       \
		struct file *f = watched(fd, &id);                        \
		if (f)                                                    \
			return sync_file(f, fd, &id, real_##name);        \
		const char *rel = NULL;                                   \
		if (on && identify(fd, "", &id) == 0 && S_ISDIR(id.mode)) \
			rel = below_live(fd, buf);                        \
		if (rel && faulty("fsync")) {                             \
			errno = EIO;                                      \
			return -1;                                        \
		}                                                         \
		int r = real_##name(fd);                                  \
		if (rel && r == 0)                                        \
			sync_names(rel);                                  \
		return r;                                                 \
	}
SYNC(fsync)
SYNC(fdatasync)

int msync(void *a, size_t len, int flags)
{
	REAL(int, msync, void *, size_t, int);
	int r = real_msync(a, len, flags);
	for (int i = 0; on && r == 0 && flags & MS_SYNC && i < BUCKETS; i++)
		for (struct file *f = table[i]; f; f = f->next)
			if (f->mapped) {
				sync_all(""); /* which file the pages belong to is not known here */
				return r;
			}
	return r;
}
void sync(void)
{
	REAL(void, sync, void);
	real_sync();
	if (on)
		sync_all("");
}
int syncfs(int fd)
{
	REAL(int, syncfs, int);
	int r = real_syncfs(fd);
	if (on && r == 0)
		sync_all("");
	return r;
}
