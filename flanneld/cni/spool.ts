// Deletions that clients kept while no agent answered (cni-plugin/wire.ts: the spool), made up for in the order of their
// time. What can't be read, and what fails for an hour, is put aside where a person finds it.

import type { Answer } from '../../cni-plugin/answer.ts';
import type { RequestMessage } from '../../cni-plugin/wire.ts';
import { decode, encode, MAX_MESSAGE_BYTES } from '../../cni-plugin/wire.ts';
import {
  ensureDirectory,
  isDirectory,
  linkIfFree,
  listDirectory,
  readBytes,
  removeIfThere,
  statIfThere,
  uniqueSuffix,
  writeWhole,
} from '../../kernel/files.ts';
import { describe, NetError } from '../../model/errors.ts';
import type { Log } from '../log.ts';

export interface SpoolDeps {
  readonly directory: string;
  /** Does one of them. */
  perform(message: RequestMessage): Promise<Answer>;
  /** Milliseconds since 1970, as the clock on the wall has it: entries are named by it. */
  now(): number;
  readonly log: Log;
}

export interface SpoolCounts {
  /** Made up for. */
  readonly done: number;
  /** Failed, to be tried again. */
  readonly waiting: number;
  /** Put aside. */
  readonly aside: number;
}

/** Deletions at once: together they cost the kernel little more than one. */
const CHUNK = 64;
/** A failure that lasts as long won't pass by itself. */
const MOST_TRIED_MS = 3_600_000;
/** A client that takes so long to write its entry is gone. */
const RUBBISH_MS = 600_000;
/** Entries put aside that are kept. */
const MOST_ASIDE = 100;

/** Where entries are put aside: beside the spool, so that they don't fill it. */
const asideOf = (directory: string): string => `${directory}.aside`;

/** Does every deletion in the spool. @throws NetError io when the directory is not what a client makes */
export async function drainSpool(deps: SpoolDeps): Promise<SpoolCounts> {
  const counts = { done: 0, waiting: 0, aside: 0 };
  if (!isSafe(deps.directory)) return counts;
  const names = listDirectory(deps.directory).sort();
  for (const name of names.filter((each) => each.startsWith('.'))) removeRubbish(deps, name);
  const entries = names.filter((each) => !each.startsWith('.'));
  for (let at = 0; at < entries.length; at += CHUNK) {
    const outcomes = await Promise.all(entries.slice(at, at + CHUNK).map((name) => drainOne(deps, name)));
    for (const outcome of outcomes) counts[outcome]++;
  }
  return counts;
}

/** What is in it is done as root. @throws NetError io */
function isSafe(directory: string): boolean {
  if (!isDirectory(directory)) return false;
  const found = statIfThere(directory);
  if (found !== undefined && (found.uid === 0 || found.uid === process.getuid?.()) && (found.mode & 0o022) === 0) {
    return true;
  }
  throw new NetError('io', `${directory} can be written by others: the deletions in it are not done`, {
    subject: directory,
  });
}

function removeRubbish({ directory, now }: SpoolDeps, name: string): void {
  const path = `${directory}/${name}`;
  const found = statIfThere(path);
  if (found?.isFile() && now() - found.mtimeMs > RUBBISH_MS) removeIfThere(path);
}

async function drainOne(deps: SpoolDeps, name: string): Promise<keyof SpoolCounts> {
  const { directory, log } = deps;
  const path = `${directory}/${name}`;
  try {
    const message = readEntry(path);
    const answer = await deps.perform(message);
    if (answer.status === 0) {
      removeIfThere(path);
      return 'done';
    }
    log.warn({ entry: name, answer: JSON.parse(answer.output) }, 'a deletion from the time without an agent failed');
    if (deps.now() - message.spooled.at < MOST_TRIED_MS) return 'waiting';
    putAside(deps, name, 'it has failed for an hour');
  } catch (error) {
    putAside(deps, name, describe(error));
  }
  return 'aside';
}

type Entry = RequestMessage & { readonly spooled: NonNullable<RequestMessage['spooled']> };

/** @throws NetError decoding */
function readEntry(path: string): Entry {
  const bytes = readBytes(path, { maxBytes: 2 * MAX_MESSAGE_BYTES });
  if (bytes === undefined) throw new NetError('decoding', `${path} is not a file, or too large`);
  const message = decode(bytes);
  if (message.kind !== 'request' || message.spooled === undefined || message.environment.CNI_COMMAND !== 'DEL') {
    throw new NetError('decoding', `${path} is no deletion`);
  }
  return { ...message, spooled: message.spooled };
}

function putAside({ directory, log }: SpoolDeps, name: string, reason: string): void {
  const aside = asideOf(directory);
  try {
    ensureDirectory(aside, 0o700);
    if (listDirectory(aside).length < MOST_ASIDE) linkIfFree(`${directory}/${name}`, `${aside}/${name}`);
    removeIfThere(`${directory}/${name}`);
    log.error({ entry: `${aside}/${name}` }, `a deletion from the time without an agent is put aside: ${reason}`);
  } catch (error) {
    log.error({ entry: `${directory}/${name}` }, `${reason}; can't put it aside: ${describe(error)}`);
  }
}

/** Adds a deletion, as a client does. @throws NetError io */
export function addToSpool(directory: string, message: RequestMessage, now: number): void {
  ensureDirectory(directory, 0o700);
  const name = `${String(Math.floor(now / 1000)).padStart(10, '0')}.${String((now % 1000) * 1_000_000).padStart(9, '0')}`;
  const entry = `${name}-${uniqueSuffix()}`;
  writeWhole(`${directory}/${entry}`, encode(message), { temporary: `${directory}/.${entry}`, sync: true });
}
