// The deletion of many links. One deletion waits 16 ms for the kernel's readers (RCU); a whole group dies in hardly more.
// So whatever is to go while the lanes are taken becomes the next group. Other threads wait for it: the rest of the process
// goes on. Most of that time the links are gone already, and only their memory isn't free yet (net/core/dev.c,
// netdev_run_todo, which lets go of the kernel's lock before it waits): whoever asks about a link in between learns that it
// isn't there, so a witness asks.

import { randomInt } from 'node:crypto';
import { asNetError, hasErrno, type NetError } from '../model/errors.ts';
import type { Mac } from '../model/ip.ts';
import { getLink, getLinkByIndex, listLinks, readLink } from './link.ts';
import { deleteByIndex, deleteGroup, groupOf, moveToGroup } from './link-groups.ts';
import { type NetlinkSocket, openNetlink, type Request } from './netlink.ts';

/** What a link must be to be deleted: another one of that name stays. */
export interface DoomedLink {
  readonly name: string;
  /** "veth" when absent. */
  readonly kind?: string | undefined;
  readonly mac: Mac;
}

export interface LinkRemover {
  /**
   * Deletes the host's link if it is the one described, and resolves when it is gone: whether there was one.
   * Equivalent to: ip link delete NAME
   * @throws NetError kernel, timeout
   */
  remove(link: DoomedLink): Promise<boolean>;
  close(): void;
}

/** While a group dies, other requests about links wait for the kernel's lock. */
const MOST_AT_ONCE = 64;
/** Groups that die side by side: each takes one of libuv's threads, a witness a second one for a moment. */
const LANES = 5;
/** Groups below are people's. */
const GROUPS = [1 << 20, 1 << 30] as const;

interface Removal {
  readonly link: DoomedLink;
  resolve(removed: boolean): void;
  reject(error: NetError): void;
}

type Found = Removal & { readonly index: number };

interface Lane {
  readonly socket: NetlinkSocket;
  readonly witness: NetlinkSocket;
  /** Of links, used for nothing else. */
  group: number;
}

/**
 * Opens a remover of links in the namespace the thread is in. `choose` gives a number of a group that isn't used.
 * @throws NetError kernel
 */
export function openLinkRemover(choose: (used: ReadonlySet<number>) => number = unusedGroup): LinkRemover {
  const newGroup = (socket: NetlinkSocket) => choose(new Set(socket.dump(listLinks()).map(groupOf)));
  const lanes = Array.from({ length: LANES }, (): Lane => {
    const socket = openNetlink();
    return { socket, witness: openNetlink(), group: newGroup(socket) };
  });
  const idle = [...lanes];
  const waiting: Removal[] = [];

  function startNext(): void {
    const lane = waiting.length === 0 ? undefined : idle.pop();
    if (lane === undefined) return;
    void work(lane).finally(() => {
      idle.push(lane);
      startNext();
    });
  }

  async function work(lane: Lane): Promise<void> {
    // What comes in the same turn dies together.
    await new Promise(setImmediate);
    const removals = waiting.splice(0, MOST_AT_ONCE);
    try {
      await removeTogether(
        lane,
        removals.flatMap((removal) => find(lane.socket, removal)),
      );
    } catch (error) {
      for (const { reject } of removals) reject(asNetError(error));
    }
  }

  async function removeTogether(lane: Lane, found: readonly Found[]): Promise<void> {
    const [first, second] = found;
    if (first === undefined) return;
    if (second === undefined) return removeEach(lane, found);
    const moves = found.map(({ link, index }) => moveToGroup(link.name, index, lane.group));
    const errors = await witnessed(lane, found, [...moves, deleteGroup(lane.group)]);
    const failed = errors[moves.length];
    if (failed === undefined) return settle(found, errors);
    // Someone has put a link there that can't be deleted, or the kernel has no groups: one by one.
    lane.group = newGroup(lane.socket);
    await removeEach(lane, found);
  }

  return {
    remove: (link) =>
      new Promise((resolve, reject) => {
        waiting.push({ link, resolve, reject });
        startNext();
      }),
    close() {
      for (const { socket, witness } of lanes) {
        socket.close();
        witness.close();
      }
    },
  };
}

/** That anyone should use the same number later is as likely as a stray hit. */
function unusedGroup(used: ReadonlySet<number>): number {
  for (;;) {
    const group = randomInt(...GROUPS);
    if (!used.has(group)) return group;
  }
}

/** The link by its index, which no other link gets; answered already if it isn't there. */
function find(socket: NetlinkSocket, removal: Removal): Found[] {
  const { name, kind = 'veth', mac } = removal.link;
  try {
    const found = readLink(socket.get(getLink(name)), () => undefined);
    if (found.index !== undefined && found.kind === kind && found.mac === mac) {
      return [{ ...removal, index: found.index }];
    }
    removal.resolve(false);
  } catch (error) {
    settleOne(removal, asNetError(error));
  }
  return [];
}

async function removeEach(lane: Lane, found: readonly Found[]): Promise<void> {
  settle(
    found,
    await witnessed(
      lane,
      found,
      found.map(({ link, index }) => deleteByIndex(link.name, index)),
    ),
  );
}

/** Carries out the deletion, and answers for each link when it is gone. Gives the errors when all is over. */
async function witnessed(
  { socket, witness }: Lane,
  found: readonly Found[],
  deletion: readonly Request[],
): Promise<(NetError | undefined)[]> {
  let over = false;
  const dying = socket.batchAside(deletion).finally(() => {
    over = true;
  });
  // Without a witness, the deletion's own end tells.
  const testimony = testify(witness, found, () => over).catch(() => undefined);
  const [errors] = await Promise.all([dying, testimony]);
  return errors;
}

async function testify(witness: NetlinkSocket, found: readonly Found[], isOver: () => boolean): Promise<void> {
  for (let living = found; living.length > 0 && !isOver(); ) {
    const errors = await witness.batchAside(living.map(({ index }) => getLinkByIndex(index)));
    const isGone = (at: number) => hasErrno(errors[at], 'ENODEV');
    for (const [at, { resolve }] of living.entries()) if (isGone(at)) resolve(true);
    living = living.filter((_, at) => !isGone(at));
  }
}

function settle(found: readonly Found[], errors: readonly (NetError | undefined)[]): void {
  for (const [at, removal] of found.entries()) settleOne(removal, errors[at]);
}

function settleOne({ resolve, reject }: Removal, error: NetError | undefined): void {
  if (error === undefined) resolve(true);
  else if (hasErrno(error, 'ENODEV')) resolve(false);
  else reject(error);
}
