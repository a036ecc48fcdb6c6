// The deletion of many links. One deletion waits 16 ms for the kernel's readers (RCU); a whole group dies in hardly more.
// So whatever is to go while one group dies becomes the next group. Another thread waits for it: the rest of the process
// goes on.

import { randomInt } from 'node:crypto';
import { asNetError, hasErrno, type NetError } from '../model/errors.ts';
import type { Mac } from '../model/ip.ts';
import { getLink, listLinks, readLink } from './link.ts';
import { deleteByIndex, deleteGroup, groupOf, moveToGroup } from './link-groups.ts';
import { type NetlinkSocket, openNetlink } from './netlink.ts';

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
/** Groups below are people's. */
const GROUPS = [1 << 20, 1 << 30] as const;

interface Removal {
  readonly link: DoomedLink;
  resolve(removed: boolean): void;
  reject(error: NetError): void;
}

type Found = Removal & { readonly index: number };

/**
 * Opens a remover of links in the namespace the thread is in. `choose` gives a number of a group that isn't used.
 * @throws NetError kernel
 */
export function openLinkRemover(choose: (used: ReadonlySet<number>) => number = unusedGroup): LinkRemover {
  const socket = openNetlink();
  const newGroup = () => choose(new Set(socket.dump(listLinks()).map(groupOf)));
  let group = newGroup();
  const waiting: Removal[] = [];
  let working = false;

  async function work(): Promise<void> {
    working = true;
    while (waiting.length > 0) {
      // What comes in the same turn dies together.
      await new Promise(setImmediate);
      const removals = waiting.splice(0, MOST_AT_ONCE);
      try {
        await removeTogether(removals.flatMap((removal) => find(socket, removal)));
      } catch (error) {
        for (const { reject } of removals) reject(asNetError(error));
      }
    }
    working = false;
  }

  async function removeTogether(found: readonly Found[]): Promise<void> {
    const [first, second] = found;
    if (first === undefined) return;
    if (second === undefined) return removeEach(socket, found);
    const moves = found.map(({ link, index }) => moveToGroup(link.name, index, group));
    const errors = await socket.batchAside([...moves, deleteGroup(group)]);
    const failed = errors[moves.length];
    if (failed === undefined) return settle(found, errors);
    // Someone has put a link there that can't be deleted, or the kernel has no groups: one by one.
    group = newGroup();
    await removeEach(socket, found);
  }

  return {
    remove: (link) =>
      new Promise((resolve, reject) => {
        waiting.push({ link, resolve, reject });
        if (!working) void work();
      }),
    close: () => socket.close(),
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

async function removeEach(socket: NetlinkSocket, found: readonly Found[]): Promise<void> {
  settle(found, await socket.batchAside(found.map(({ link, index }) => deleteByIndex(link.name, index))));
}

function settle(found: readonly Found[], errors: readonly (NetError | undefined)[]): void {
  for (const [at, removal] of found.entries()) settleOne(removal, errors[at]);
}

function settleOne({ resolve, reject }: Removal, error: NetError | undefined): void {
  if (error === undefined) resolve(true);
  else if (hasErrno(error, 'ENODEV')) resolve(false);
  else reject(error);
}
