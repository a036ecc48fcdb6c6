/* Which peer has an address: a hash table of networks, looked up once for each prefix length in use, longest first; and
 * the peers, which are the next hops of these routes. */

#pragma once

#include <endian.h>
#include <string.h>

#include "common.h"

enum { SLOTS = 2 * MAX_ROUTES }; /* at most half full, so that searches are short and end */

/* An address (its numbers in the machine's order) with a prefix length or a port. IPv4 is ::ffff:a.b.c.d, so that there
 * is one kind of address. */
struct key {
  uint64_t high, low;
  uint32_t extra;
};

struct entry {
  struct key key;
  struct key hop; /* of a route */
  uint32_t uses; /* of a peer: by how many routes; 0: the slot is free */
};

struct map {
  struct entry slots[SLOTS];
};

struct table {
  struct map routes, peers;
  uint32_t count;
  uint32_t with_length[129];
  uint8_t lengths[129]; /* those in use, longest first */
  uint32_t lengths_used;
};

static struct table tables[2];
static struct table *active = &tables[0], *edited = &tables[0];

static struct key address_key(const void *bytes, uint32_t extra) {
  struct key key = {.extra = extra};
  memcpy(&key.high, bytes, 8);
  memcpy(&key.low, (const uint8_t *)bytes + 8, 8);
  key.high = be64toh(key.high);
  key.low = be64toh(key.low);
  return key;
}

static struct key ipv4_key(const void *bytes, uint32_t extra) {
  uint32_t address;
  memcpy(&address, bytes, 4);
  return (struct key){.low = 0xffff00000000u | be32toh(address), .extra = extra};
}

static bool is_ipv4_key(const struct key *key) { return key->high == 0 && key->low >> 32 == 0xffff; }

static struct key masked(struct key key, uint32_t length) {
  uint64_t high = length >= 64 ? ~0ull : length ? ~0ull << (64 - length) : 0;
  uint64_t low = length >= 128 ? ~0ull : length > 64 ? ~0ull << (128 - length) : 0;
  return (struct key){key.high & high, key.low & low, length};
}

static bool same(const struct key *a, const struct key *b) {
  return a->low == b->low && a->high == b->high && a->extra == b->extra;
}

static uint32_t home(const struct key *key) {
  uint64_t mixed = (key->high ^ key->extra) * 0x9e3779b97f4a7c15u ^ key->low;
  mixed = (mixed ^ mixed >> 32) * 0xd6e8feb86659fd93u;
  return (uint32_t)(mixed >> 32) % SLOTS;
}

/* The slot of a key, or the free one where it belongs. */
static struct entry *find(struct map *map, const struct key *key) {
  uint32_t slot = home(key);
  while (map->slots[slot].uses && !same(&map->slots[slot].key, key)) slot = (slot + 1) % SLOTS;
  return &map->slots[slot];
}

/* A search ends at a free slot, so the entries behind move up into the gap, but none to a place before its home. */
static void take_out(struct map *map, const struct entry *gone) {
  uint32_t gap = (uint32_t)(gone - map->slots);
  for (uint32_t slot = (gap + 1) % SLOTS; map->slots[slot].uses; slot = (slot + 1) % SLOTS) {
    uint32_t distance = (slot - home(&map->slots[slot].key)) % SLOTS;
    if (distance < (slot - gap) % SLOTS) continue;
    map->slots[gap] = map->slots[slot];
    gap = slot;
  }
  map->slots[gap].uses = 0;
}

static void count_route(struct table *table, uint32_t length, int change) {
  table->count += (uint32_t)change;
  table->with_length[length] += (uint32_t)change;
  table->lengths_used = 0;
  for (uint32_t each = 129; each-- > 0;)
    if (table->with_length[each]) table->lengths[table->lengths_used++] = (uint8_t)each;
}

static void retain_peer(struct table *table, const struct key *hop) {
  struct entry *peer = find(&table->peers, hop);
  peer->key = *hop;
  peer->uses++;
}

static void release_peer(struct table *table, const struct key *hop) {
  struct entry *peer = find(&table->peers, hop);
  if (peer->uses > 1) peer->uses--;
  else take_out(&table->peers, peer);
}

static void set_route(struct table *table, const struct key *network, const struct key *hop) {
  struct entry *route = find(&table->routes, network);
  if (!route->uses && table->count == MAX_ROUTES) {
    counters[ROUTES_REFUSED]++;
    return;
  }
  if (route->uses) release_peer(table, &route->hop);
  else count_route(table, network->extra, 1);
  *route = (struct entry){*network, *hop, 1};
  retain_peer(table, hop);
}

static void delete_route(struct table *table, const struct key *network) {
  struct entry *route = find(&table->routes, network);
  if (!route->uses) return;
  release_peer(table, &route->hop);
  take_out(&table->routes, route);
  count_route(table, network->extra, -1);
}

/* From here changes go to an empty table that isn't in force yet. */
static void begin_table(void) {
  edited = active == &tables[0] ? &tables[1] : &tables[0];
  memset(edited, 0, sizeof *edited);
}

static void commit_table(void) { active = edited; }

/* The next hop of the longest network that holds the address, or NULL. */
static const struct key *next_hop(const struct key *destination) {
  for (uint32_t i = 0; i < active->lengths_used; i++) {
    struct key network = masked(*destination, active->lengths[i]);
    const struct entry *route = find(&active->routes, &network);
    if (route->uses) return &route->hop;
  }
  return NULL;
}

static bool is_peer(const struct key *address) { return find(&active->peers, address)->uses > 0; }
