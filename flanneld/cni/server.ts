// Serves the verbs to clients, each on a connection of its own: who it is, what it wants, its turn, its answer. An ADD
// whose result nobody has taken is undone, so that the runtime, which takes it for failed, and the host agree.

import type { Duplex } from 'node:stream';
import type { Answer } from '../../cni-plugin/answer.ts';
import { failure, versions } from '../../cni-plugin/answer.ts';
import { placesOf } from '../../cni-plugin/config.ts';
import { executeFrom, overheard } from '../../cni-plugin/execute.ts';
import type { Dependencies } from '../../cni-plugin/verbs.ts';
import { perform } from '../../cni-plugin/verbs.ts';
import type { RequestMessage } from '../../cni-plugin/wire.ts';
import type { Peer } from '../../kernel/peer.ts';
import { describe, NetError } from '../../model/errors.ts';
import type { Log } from '../log.ts';
import type { Call, LaneName } from './call.ts';
import { callOf, dependenciesOf, turnOf } from './call.ts';
import type { Connection } from './connection.ts';
import { connectionOf } from './connection.ts';
import type { Counters } from './counters.ts';
import type { Lane } from './queue.ts';
import { createQueue } from './queue.ts';
import type { RecordDirectories } from './records.ts';
import { PLUGIN_PATH } from './repair.ts';

export interface CniServerDeps {
  /** What all calls share; the rest comes from the client. */
  readonly shared: Omit<Dependencies, 'execute' | 'asked' | 'call'>;
  readonly records: Pick<RecordDirectories, 'learn'>;
  readonly log: Log;
  readonly counters: Counters;
  /** Besides root, who may use the socket. */
  readonly uid: number;
  /** Keeps a deletion that could not be done, to be tried again. */
  readonly keep: (message: RequestMessage) => void;
  /** Told when something may have been left behind. */
  readonly onFailure: () => void;
  /** Told when an attachment may have ended. */
  readonly onEnded?: (() => void) | undefined;
  /** Until a client is told to try later, in milliseconds; its own patience is 120 s. */
  readonly deadlineMs?: number | undefined;
  readonly lanes?: Readonly<Record<LaneName, Lane>> | undefined;
}

export interface CniServer {
  /** Serves a client to its end. Never throws. */
  serve(socket: Duplex, peer: Peer): Promise<void>;
  /** Sends away who has not begun, and resolves when what runs has ended and been answered. */
  stop(): Promise<void>;
  readonly running: number;
  readonly waiting: number;
}

const DEADLINE_MS = 110_000;
const LANES: Readonly<Record<LaneName, Lane>> = {
  address: { running: 256, waiting: 1024 },
  delete: { running: 256, waiting: 1024 },
  other: { running: 64, waiting: 1024 },
  // Their number is bounded by that of the verbs they are part of.
  nested: { running: Number.POSITIVE_INFINITY, waiting: Number.POSITIVE_INFINITY },
};
/** Of what executed plugins say on standard error, in characters. */
const MOST_ERRORS = 1 << 16;
const STOPPING = new NetError('try-later', 'the agent is stopping');

export function createCniServer(deps: CniServerDeps): CniServer {
  const { shared, log, counters, deadlineMs = DEADLINE_MS } = deps;
  const queue = createQueue(deps.lanes ?? LANES);
  const silent = new Set<Connection>();
  let serial = 0;
  let stopping = false;

  async function serve(socket: Duplex, { pid, uid }: Peer): Promise<void> {
    const connection = connectionOf(socket);
    const timer = setTimeout(() => void refuse(connection, tooLong(deadlineMs)), deadlineMs);
    try {
      if (uid !== 0 && uid !== deps.uid) throw notAllowed(uid);
      await answerCall(connection, await receive(connection, pid));
    } catch (error) {
      if (error === STOPPING) connection.drop();
      else await refuse(connection, error);
    } finally {
      clearTimeout(timer);
    }
  }

  async function receive(connection: Connection, pid: number): Promise<Call | undefined> {
    silent.add(connection);
    try {
      if (stopping) throw STOPPING;
      const message = await connection.request();
      return message.environment.CNI_COMMAND === 'VERSION' ? undefined : callOf(message, pid);
    } finally {
      silent.delete(connection);
    }
  }

  async function answerCall(connection: Connection, call: Call | undefined): Promise<void> {
    if (call === undefined) return void (await deliver(connection, versions()));
    // A deletion is wanted, whether its client is there to hear of it or not.
    const unless = call.request.command === 'DEL' ? undefined : connection.gone;
    await queue.run({ ...turnOf(call, serial++), unless }, () => carryOut(call, connection));
  }

  async function carryOut(call: Call, connection: Connection): Promise<void> {
    const { command } = call.request;
    let errors = '';
    const hear = (words: string) => (errors = (errors + words).slice(-MOST_ERRORS));
    const answer = await performFor(call, overheard(connection.execute, hear));
    const delivered = await deliver(connection, answer, errors);
    const undo = command === 'ADD' && answer.status === 0 && !delivered;
    counters.count(command, undo ? 'undone' : answer.status === 0 ? 'succeeded' : 'failed');
    report(call, answer);
    if (undo) await takeBack(call);
    if (undo || answer.status !== 0 || command === 'DEL' || command === 'GC') deps.onEnded?.();
    if (answer.status !== 0) deps.onFailure();
  }

  async function performFor(call: Call, execute: Dependencies['execute']): Promise<Answer> {
    try {
      const dependencies = dependenciesOf(call, shared, execute);
      if (call.request.command === 'ADD') deps.records.learn(placesOf(call.request).records);
      return await perform(call.plugin, call.request, dependencies);
    } catch (error) {
      return failure(error, call.request.cniVersion);
    }
  }

  function report({ request }: Call, { status, output }: Answer): void {
    const { command, network, containerId, ifname } = request;
    const facts = { network, containerId, ifname };
    if (status === 0) log.debug(facts, command);
    else log.warn({ ...facts, answer: JSON.parse(output) }, `${command} failed`);
  }

  /** Deletes what has just been added. If that fails it is kept, like a deletion that came while no agent was there. */
  async function takeBack(call: Call): Promise<void> {
    const message = { ...call.message, environment: { ...call.message.environment, CNI_COMMAND: 'DEL' } };
    const execute = executeFrom(call.request.path, { PATH: PLUGIN_PATH, ...message.environment });
    const { containerId, ifname } = call.request;
    log.warn({ containerId, ifname }, 'ADD taken back: its client did not wait for the result');
    const answer = await performFor({ ...call, message, request: { ...call.request, command: 'DEL' } }, execute);
    if (answer.status === 0) return;
    report({ ...call, request: { ...call.request, command: 'DEL' } }, answer);
    deps.keep({ ...message, spooled: { bootId: shared.bootId, at: shared.now() } });
  }

  async function refuse(connection: Connection, error: unknown): Promise<void> {
    if (!(await deliver(connection, failure(error)))) return;
    counters.count('refused', 'failed');
    log.warn({}, `request refused: ${describe(error)}`);
  }

  return {
    serve,
    stop() {
      stopping = true;
      for (const connection of silent) connection.drop();
      return queue.stop(STOPPING);
    },
    get running() {
      return queue.running;
    },
    get waiting() {
      return queue.waiting;
    },
  };
}

/** Whether the client has the answer; instead of one that is too large to be sent it gets that. */
async function deliver(connection: Connection, answer: Answer, errors = ''): Promise<boolean> {
  try {
    return await connection.answer({ ...answer, errors });
  } catch (error) {
    await connection.answer({ ...failure(error), errors: '' });
    return false;
  }
}

const tooLong = (deadlineMs: number): NetError =>
  new NetError('timeout', `the verb takes longer than ${deadlineMs} ms; try again later`);

const notAllowed = (uid: number): NetError =>
  new NetError(
    'io',
    `user ${uid} may not use flanneld's socket, which is root's: a rootless runtime has another network`,
    {
      errno: 'EPERM',
      subject: String(uid),
    },
  );
