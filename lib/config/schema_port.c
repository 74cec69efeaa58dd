/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "schema.h"
#include "value.h"

/* Which keys a port may have depends on its type, and for a guest's on who makes the socket. */
enum port_variant {
	PORT_CONNECT = 1 << 0,
	PORT_LISTEN = 1 << 1,
	PORT_NIC = 1 << 2,
	PORT_RELAY_CONNECT = 1 << 3,
	PORT_RELAY_LISTEN = 1 << 4,
	PORT_GUEST = PORT_CONNECT | PORT_LISTEN,
	PORT_RELAY = PORT_RELAY_CONNECT | PORT_RELAY_LISTEN,
	PORT_SOCKET = PORT_GUEST | PORT_RELAY,
	PORT_SOCKET_LISTEN = PORT_LISTEN | PORT_RELAY_LISTEN,
};

static const char *const port_variant_names[] = {
	"type guest with role connect (the other side makes the socket)",
	"type guest with role listen",
	"type nic",
	"type relay with role connect",
	"type relay with role listen",
};

static const struct choice port_types[] = {
	{"guest", CONFIG_PORT_GUEST},
	{"nic", CONFIG_PORT_NIC},
	{"relay", CONFIG_PORT_RELAY},
	{NULL, 0},
};

static const struct choice relays[] = {
	{"auto", CONFIG_RELAY_AUTO},
	{"pass-through", CONFIG_RELAY_PASS_THROUGH},
	{"shadow", CONFIG_RELAY_SHADOW},
	{NULL, 0},
};

static const struct choice roles[] = {
	{"connect", CONFIG_ROLE_CONNECT},
	{"listen", CONFIG_ROLE_LISTEN},
	{NULL, 0},
};

static bool has_text(const json_t *object, const char *key, const char *text)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value != NULL && strcmp(value, text) == 0;
}

/* A type that is missing or wrong allows everything here: its own row says what is the matter. */
static uint32_t port_variant(const json_t *object)
{
	uint32_t variants = PORT_GUEST;

	if (has_text(object, "type", "nic"))
		return PORT_NIC;
	if (has_text(object, "type", "relay"))
		variants = PORT_RELAY;
	else if (!has_text(object, "type", "guest"))
		return UINT32_MAX;
	if (has_text(object, "role", "listen"))
		return variants & PORT_SOCKET_LISTEN;
	return json_object_get(object, "role") == NULL || has_text(object, "role", "connect")
		       ? variants & ~PORT_SOCKET_LISTEN
		       : variants;
}

static int read_vid(struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	json_int_t vid = json_integer_value(value);

	if (!json_is_integer(value) || vid < CONFIG_VID_MIN || vid > CONFIG_VID_MAX)
		return reader_refuse_number(r, rule, value);
	*(uint16_t *)field = (uint16_t)vid;
	return 0;
}

static bool vid_range_parse(const json_t *value, unsigned int *first, unsigned int *last)
{
	const char *text = json_string_value(value);

	if (json_is_integer(value)) {
		json_int_t vid = json_integer_value(value);

		if (vid < CONFIG_VID_MIN || vid > CONFIG_VID_MAX)
			return false;
		*first = *last = (unsigned int)vid;
		return true;
	}
	return text != NULL && strlen(text) == json_string_length(value) &&
	       value_parse_number(text, &text, CONFIG_VID_MAX, first) && *text == '-' &&
	       value_parse_number(text + 1, &text, CONFIG_VID_MAX, last) && *text == '\0' &&
	       *first >= CONFIG_VID_MIN && *first <= *last;
}

static void vlan_add(struct config_vlan *vlan, unsigned int vid)
{
	vlan->trunk[vid / 64] |= UINT64_C(1) << (vid % 64);
}

/* Field: the whole struct config_vlan. */
static int read_trunk(
	struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	struct config_vlan *vlan = field;

	if (!json_is_array(value) || json_array_size(value) == 0)
		return reader_refuse_value(r, rule, value);
	for (size_t i = 0; i < json_array_size(value); i++) {
		const json_t *item = json_array_get(value, i);
		unsigned int first, last;

		if (!vid_range_parse(item, &first, &last)) {
			reader_enter_index(r, i);
			return reader_refuse_value(r, rule, item);
		}
		for (unsigned int vid = first; vid <= last; vid++)
			vlan_add(vlan, vid);
	}
	vlan->kind = CONFIG_VLAN_TRUNK;
	return 0;
}

static int vlan_finish(struct reader *r, void *object)
{
	struct config_vlan *vlan = object;
	bool is_trunk = vlan->kind == CONFIG_VLAN_TRUNK;

	if (is_trunk == (vlan->access != 0))
		return reader_refuse(r,
			"a port is either access or trunk; allowed: one of the keys access, trunk; "
			"%s",
			is_trunk ? "remove one of them" : "add one of them, or remove 'vlan'");
	if (vlan->native != 0 && !is_trunk)
		return reader_refuse(r, "key 'native' needs a trunk; allowed: native beside trunk; "
					"remove it, or use "
					"'trunk'");
	if (!is_trunk)
		vlan->kind = CONFIG_VLAN_ACCESS;
	else if (vlan->native != 0)
		vlan_add(vlan, vlan->native);
	return 0;
}

static const struct key_rule vlan_keys[] = {
	KEY("access", read_vid, offsetof(struct config_vlan, access), "1 to 4094"),
	KEY("trunk", read_trunk, 0, "a list of VLANs 1 to 4094 and ranges such as 100-199",
		.next = "write for example trunk: [10, 20, 100-199]"),
	KEY("native", read_vid, offsetof(struct config_vlan, native), "1 to 4094"),
};

static const struct object_rule vlan_rule = {
	.keys = vlan_keys,
	.n_keys = N_ROWS(vlan_keys),
	.size = sizeof(struct config_vlan),
	.finish = vlan_finish,
};

/* No permissions are given yet; no file can say this. */
#define SOCKET_MODE_UNSET ((mode_t)-1)

/*
 * Before ports had modes, this key was what is `socket_mode` now: an octal text is still taken for
 * the socket's permissions where there are any to set. The row of `socket_mode` comes before.
 */
static int read_port_mode(
	struct reader *r, const struct key_rule *rule, const json_t *value, void *field)
{
	struct config_port *port = (struct config_port *)((char *)field - rule->offset);
	bool has_permissions = port->type != CONFIG_PORT_NIC && port->role == CONFIG_ROLE_LISTEN;
	mode_t permissions;

	if (!has_permissions || !schema_mode_parse(value, &permissions))
		return reader_choice(r, rule, value, field);
	if (port->socket.mode != SOCKET_MODE_UNSET)
		return reader_refuse(r,
			"value '%s' is not allowed beside 'socket_mode'; allowed: %s; remove one",
			json_string_value(value), rule->allowed);
	port->socket.mode = permissions;
	return 0;
}

_Static_assert(offsetof(struct config_port, coalesce_us) ==
		       offsetof(struct config_port, coalesce_frames) + sizeof(uint32_t),
	"both are read as one object");

#define AT_COALESCE(field)                                                                         \
	(offsetof(struct config_port, field) - offsetof(struct config_port, coalesce_frames))

static const struct key_rule coalesce_keys[] = {
	KEY("frames", reader_number, AT_COALESCE(coalesce_frames), "0 to 1024 (frames)",
		.max = CONFIG_COALESCE_FRAMES_MAX),
	KEY("us", reader_number, AT_COALESCE(coalesce_us), "0 to 10000 (microseconds)",
		.max = CONFIG_COALESCE_US_MAX),
};

static const struct object_rule coalesce_rule = {
	.keys = coalesce_keys,
	.n_keys = N_ROWS(coalesce_keys),
	.size = 2 * sizeof(uint32_t),
};

static void port_set_defaults(void *object)
{
	struct config_port *port = object;

	port->socket.mode = SOCKET_MODE_UNSET;
	port->mode = CONFIG_MODE_ADAPTIVE;
	port->bridge_index = -1;
	port->cross_connect_index = -1;
}

/* Devices are the same if they agree up to the arguments: "net_tap0,iface=a" and "net_tap0" clash
 * in DPDK. */
static bool same_device(const char *a, const char *b)
{
	size_t length = strcspn(a, ",");

	return length == strcspn(b, ",") && memcmp(a, b, length) == 0;
}

static int port_clash(struct reader *r, const char *key, const char *value, uint32_t line)
{
	reader_enter_key(r, key);
	return reader_refuse(r,
		"value '%s' is not allowed; allowed: a %s that no other port has (line %u has it); "
		"choose another",
		value, key, line);
}

/* A relay's device is a socket of ours: the daemon would wait for itself. */
static bool meets_itself(const struct config_port *relay, const struct config_port *other)
{
	return relay->type == CONFIG_PORT_RELAY && other->type != CONFIG_PORT_NIC &&
	       strcmp(relay->device, other->socket.path) == 0;
}

static const uint32_t default_queue_pairs[] = {
	[CONFIG_PORT_GUEST] = CONFIG_QUEUE_PAIRS_MAX,
	[CONFIG_PORT_NIC] = 1,
	[CONFIG_PORT_RELAY] = CONFIG_RELAY_QUEUE_PAIRS_MAX,
};

static int port_finish(struct reader *r, void *object)
{
	struct config_port *port = object;
	bool has_socket = port->type != CONFIG_PORT_NIC;

	port->line = reader_line(r);
	if (port->socket.mode == SOCKET_MODE_UNSET)
		port->socket.mode = SOCKET_MODE_DEFAULT;
	if (port->queue_pairs == 0)
		port->queue_pairs = default_queue_pairs[port->type];
	if (port->type == CONFIG_PORT_RELAY && port->queue_pairs > CONFIG_RELAY_QUEUE_PAIRS_MAX) {
		reader_enter_key(r, "queues");
		return reader_refuse(r,
			"value '%u' is not allowed; allowed: 1 to %d (queue pairs of a relay); correct the value",
			port->queue_pairs, CONFIG_RELAY_QUEUE_PAIRS_MAX);
	}
	if (meets_itself(port, port)) {
		reader_enter_key(r, "device");
		return reader_refuse(r,
			"value '%s' is not allowed; allowed: another socket than the port's own; correct the "
			"value",
			port->device);
	}
	for (const struct config_port *other = r->config ? r->config->ports : port; other < port;
		other++) {
		if (strcmp(other->name, port->name) == 0)
			return port_clash(r, "name", port->name, other->line);
		if (has_socket && other->type != CONFIG_PORT_NIC &&
			strcmp(other->socket.path, port->socket.path) == 0)
			return port_clash(r, "socket", port->socket.path, other->line);
		if (meets_itself(port, other) || meets_itself(other, port))
			return port_clash(r, port->type == CONFIG_PORT_RELAY ? "device" : "socket",
				port->type == CONFIG_PORT_RELAY ? port->device : port->socket.path, other->line);
		if (other->type == port->type && port->type != CONFIG_PORT_GUEST &&
			same_device(other->device, port->device))
			return port_clash(r, "device", port->device, other->line);
	}
	return 0;
}

#define AT(field) offsetof(struct config_port, field)

static const struct key_rule port_keys[] = {
	KEY("name", reader_name, AT(name), NAME_ALLOWED, .min = 1, .max = CONFIG_NAME_MAX,
		.is_required = true),
	KEY("type", reader_choice, AT(type), "guest, nic, relay", .choices = port_types,
		.is_required = true),
	KEY("role", reader_choice, AT(role), "connect, listen", .choices = roles,
		.variants = PORT_SOCKET),
	KEY("socket", schema_read_socket_path, AT(socket.path), SOCKET_PATH_ALLOWED,
		.is_required = true, .variants = PORT_SOCKET),
	KEY("owner", reader_text, AT(socket.owner), "a user name or number of 1 to 63 bytes",
		.min = 1, .max = CONFIG_USER_MAX, .variants = PORT_SOCKET_LISTEN),
	KEY("group", reader_text, AT(socket.group), "a group name or number of 1 to 63 bytes",
		.min = 1, .max = CONFIG_USER_MAX, .variants = PORT_SOCKET_LISTEN),
	KEY("socket_mode", schema_read_mode, AT(socket.mode), SOCKET_MODE_ALLOWED,
		.next = "write for example socket_mode: \"0660\"", .variants = PORT_SOCKET_LISTEN),
	KEY("device", reader_text, AT(device),
		"a PCI address, a virtual device with its arguments, or, of a relay, the path of the "
		"device's socket, 1 to 511 bytes",
		.next = "write for example device: \"net_tap0,iface=tap0\" or device: "
			"\"0000:01:00.0\"",
		.min = 1, .max = CONFIG_DEVICE_MAX, .is_required = true,
		.variants = PORT_NIC | PORT_RELAY),
	KEY("relay", reader_choice, AT(relay), "auto, pass-through, shadow", .choices = relays,
		.variants = PORT_RELAY),
	KEY("queues", reader_number, AT(queue_pairs), "1 to 16 (queue pairs)", .min = 1,
		.max = CONFIG_QUEUE_PAIRS_MAX),
	KEY("mtu", reader_number, AT(mtu), "68 to 65535", .min = 68, .max = 65535,
		.variants = PORT_GUEST | PORT_NIC),
	KEY("vlan", reader_object, AT(vlan), "access or trunk", .item = &vlan_rule,
		.variants = PORT_GUEST | PORT_NIC),
	KEY("mode", read_port_mode, AT(mode), CONFIG_MODE_ALLOWED, .choices = schema_modes),
	KEY("coalesce", reader_object, AT(coalesce_frames), "a mapping", .item = &coalesce_rule,
		.variants = PORT_GUEST),
	KEY("bridge", reader_name, AT(bridge_name), NAME_ALLOWED,
		.next = "list the port under 'ports' of the bridge", .min = 1,
		.max = CONFIG_NAME_MAX, .is_rpc_only = true, .variants = PORT_GUEST | PORT_NIC),
};

const struct object_rule schema_port = {
	.keys = port_keys,
	.n_keys = N_ROWS(port_keys),
	.size = sizeof(struct config_port),
	.set_defaults = port_set_defaults,
	.variant = port_variant,
	.variant_names = port_variant_names,
	.finish = port_finish,
};

const char *config_port_type_name(enum config_port_type type)
{
	return port_types[type].name;
}

const char *config_role_name(enum config_role role)
{
	return roles[role].name;
}

const char *config_mode_name(enum config_mode mode)
{
	return schema_modes[mode].name;
}

bool config_mode_parse(const char *name, enum config_mode *mode)
{
	for (const struct choice *c = schema_modes; name != NULL && c->name != NULL; c++) {
		if (strcmp(name, c->name) == 0) {
			*mode = (enum config_mode)c->value;
			return true;
		}
	}
	return false;
}
