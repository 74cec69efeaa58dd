/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The configuration: a YAML (or JSON) file becomes a validated `struct config`, and one port object
 * of the RPC becomes a validated `struct config_port`, through the same table of keys. What this
 * header hands out is complete: every default is filled in and every cross check is done, so that
 * its users need not check again.
 *
 * Nothing here looks at the machine: whether a user, a device or a CPU exists is found out by who
 * uses it.
 *
 * Thread rule: control thread. No global state.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include <base/log.h>
#include <base/unix_socket.h>

#define CONFIG_PORTS_MAX           256
#define CONFIG_BRIDGES_MAX         64
#define CONFIG_CROSS_CONNECTS_MAX  128
#define CONFIG_CPUS_MAX            1024 /* CPU numbers are 0..1023 */
#define CONFIG_QUEUE_PAIRS_MAX     16
#define CONFIG_RELAY_QUEUE_PAIRS_MAX 8
#define CONFIG_NAME_MAX            31 /* bytes of a port's or bridge's name */
#define CONFIG_USER_MAX            63 /* bytes of a user's or group's name */
#define CONFIG_DEVICE_MAX          511
#define CONFIG_VID_MIN             1
#define CONFIG_VID_MAX             4094
#define CONFIG_FILE_BYTES_MAX      (1024 * 1024)
#define CONFIG_IDLE_US_MAX         100000
#define CONFIG_IDLE_US_DEFAULT     200
#define CONFIG_COALESCE_FRAMES_MAX 1024
#define CONFIG_COALESCE_US_MAX     10000

#define CONFIG_CONTROL_SOCKET      "/run/ringway/control.sock"

enum config_port_type {
	CONFIG_PORT_GUEST,
	CONFIG_PORT_NIC,
	CONFIG_PORT_RELAY,
};

/* Which way a relay port's rings go. */
enum config_relay {
	CONFIG_RELAY_AUTO, /* default */
	CONFIG_RELAY_PASS_THROUGH,
	CONFIG_RELAY_SHADOW,
};

/* Who makes the socket: `listen` we do; `connect` the front end does and we come to it. */
enum config_role {
	CONFIG_ROLE_CONNECT,
	CONFIG_ROLE_LISTEN,
};

/*
 * When a worker sleeps. For the workers: never, when their queues are idle, or at once when nothing
 * is left to do; poll and interrupt are stronger than what the ports say. For a port: how long its
 * frames keep its worker awake: for ever, for the worker's idle window, not at all.
 */
enum config_mode {
	CONFIG_MODE_POLL,
	CONFIG_MODE_ADAPTIVE, /* default */
	CONFIG_MODE_INTERRUPT,
};

enum config_vlan_kind {
	CONFIG_VLAN_NONE,   /* frames pass as they are */
	CONFIG_VLAN_ACCESS, /* untagged frames belong to `access` */
	CONFIG_VLAN_TRUNK,  /* tagged frames of the VLANs in `trunk`; untagged ones belong to
			       `native` */
};

struct config_vlan {
	enum config_vlan_kind kind;
	uint16_t access;    /* 1..4094 for CONFIG_VLAN_ACCESS, else 0 */
	uint16_t native;    /* 1..4094, or 0: untagged frames are not accepted */
	uint64_t trunk[64]; /* bit v % 64 of word v / 64: VLAN v is carried; the native one is, too
			     */
};

static inline bool config_vlan_carries(const struct config_vlan *vlan, uint16_t vid)
{
	return vid < 4096 && (vlan->trunk[vid / 64] >> (vid % 64) & 1) != 0;
}

/* Owner, group and mode of a socket that we make; empty owner or group: the process's own. */
struct config_socket {
	char path[UNIX_SOCKET_PATH_MAX + 1];
	char owner[CONFIG_USER_MAX + 1];
	char group[CONFIG_USER_MAX + 1];
	mode_t mode; /* 0..0777, default 0660 */
};

/* A plain value: it owns nothing and may be copied. */
struct config_port {
	char name[CONFIG_NAME_MAX + 1];
	enum config_port_type type;
	uint32_t queue_pairs; /* 1..16: guest: the most that are offered, default 16; relay: ditto, 1..8,
				 default 8; NIC: how many are used, default 1 */
	uint32_t mtu;         /* 68..65535, or 0: not given */
	struct config_vlan vlan;
	enum config_mode mode;
	/* guest and relay */
	enum config_role role;
	struct config_socket socket; /* owner, group and mode with CONFIG_ROLE_LISTEN only */
	/* A call to the guest waits for so many frames, or so long after the first of them: the two
	 * stand together, in this order. */
	uint32_t coalesce_frames; /* 0..1024, default 0: no bound by frames */
	uint32_t coalesce_us;     /* 0..10000, default 0: calls do not wait */
	/* NIC: PCI address or virtual device with its arguments, as DPDK takes it; relay: path of the device's socket */
	char device[CONFIG_DEVICE_MAX + 1];
	enum config_relay relay;
	/* Where the port is used; -1: nowhere. At most one of the two is set. Indexes into struct
	 * config. */
	int bridge_index;
	int cross_connect_index;
	/* config_port_from_json() only: the bridge asked for, or empty. */
	char bridge_name[CONFIG_NAME_MAX + 1];
	uint32_t line; /* in the file; 0: not from a file */
};

struct config_bridge {
	char name[CONFIG_NAME_MAX + 1];
	uint32_t *port_indexes; /* into struct config */
	uint32_t n_ports;
	uint32_t age_s;   /* 1..86400, default 300 */
	uint32_t fdb_max; /* 16..1048576, default 65536 */
	uint32_t line;
};

struct config_cross_connect {
	uint32_t *port_indexes; /* two different ones */
	uint32_t n_ports;       /* 2 */
	bool lossless;          /* default false */
	uint32_t line;
};

/* Widest vectors of the CPU that workers use. */
enum config_simd {
	CONFIG_SIMD_AUTO, /* what the CPU has */
	CONFIG_SIMD_PORTABLE,
	CONFIG_SIMD_AVX2,
	CONFIG_SIMD_AVX512,
};

/* What PCI devices signal by, for DPDK: its driver of the 82574 raises no receive interrupts by MSI-X. */
enum config_vfio_intr {
	CONFIG_VFIO_INTR_AUTO, /* MSI-X, or what the device has */
	CONFIG_VFIO_INTR_MSIX,
	CONFIG_VFIO_INTR_MSI,
	CONFIG_VFIO_INTR_LEGACY,
};

enum config_hugepages {
	CONFIG_HUGEPAGES_AUTO,  /* use them where there are enough, say so where not */
	CONFIG_HUGEPAGES_NEVER, /* do not look */
};

struct config {
	struct {
		uint16_t *cpus;  /* in the order of the file, each once */
		uint32_t n_cpus; /* 0: not given; the allowed CPUs but one */
		enum config_simd simd;
		enum config_mode mode;
		uint32_t idle_us; /* 1..100000, default 200: with CONFIG_MODE_ADAPTIVE a worker
				     that has found nothing for so long sleeps */
	} workers;
	struct config_port *ports;
	uint32_t n_ports;
	struct config_bridge *bridges;
	uint32_t n_bridges;
	struct config_cross_connect *cross_connects;
	uint32_t n_cross_connects;
	struct config_socket control; /* default CONFIG_CONTROL_SOCKET, mode 0660 */
	struct {
		enum log_level level; /* default LOG_LEVEL_INFO */
	} log;
	struct {
		enum config_hugepages hugepages;
		uint32_t mb; /* 16..1048576, or 0: not given */
	} memory;
	struct {
		enum config_vfio_intr vfio_intr;
	} eal;
};

#define CONFIG_ERROR_MAX 1024

/*
 * One line without a newline. From a file: `FILE:LINE: key.path: value 'x' is not allowed; allowed:
 * ...; <next step>`; from an RPC the same without `FILE:LINE: `. Bytes that are not printable ASCII
 * are shown as '?'.
 */
struct config_error {
	char message[CONFIG_ERROR_MAX];
};

/*
 * Reads a file ("-": standard input). 0 and a `*config` that the caller frees with config_free(),
 * or a negative errno and the line in `error`: -EINVAL for whatever the text says wrongly, -EFBIG
 * for more than CONFIG_FILE_BYTES_MAX, the errors of open(2) and read(2), -ENOMEM.
 */
int config_load(const char *path, struct config **config, struct config_error *error);

/* The same for text in memory; `name` stands for FILE in messages. */
int config_load_text(const char *name, const char *text, size_t n_bytes, struct config **config,
	struct config_error *error);

/* NULL is allowed. */
void config_free(struct config *config);

/*
 * Reads one port as in the file's list `ports`, plus the optional key `bridge`. Does not know the
 * other ports: that the name and the socket are not taken and that the bridge exists is the
 * caller's to check. 0, or -EINVAL and the line.
 */
int config_port_from_json(
	const json_t *object, struct config_port *port, struct config_error *error);

/* "access 10", "trunk 10,20-29 native 1" or "" in `text`, cut at `size`; returns `text`. */
const char *config_vlan_to_text(const struct config_vlan *vlan, char *text, size_t size);

/* The words of the file for a value; static strings. */
const char *config_port_type_name(enum config_port_type type);
const char *config_role_name(enum config_role role);
const char *config_mode_name(enum config_mode mode);

/* The word of the file, which is DPDK's as well. */
const char *config_vfio_intr_name(enum config_vfio_intr kind);

/* The value for a word of the file, for RPCs that take it alone; false: there is no such mode, and
 * `*mode` is as it was. NULL is no mode. */
bool config_mode_parse(const char *name, enum config_mode *mode);

/* What may be written there, for messages. */
#define CONFIG_MODE_ALLOWED "poll, adaptive, interrupt"

#endif
