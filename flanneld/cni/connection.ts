// One client's connection: a request comes, the client may be asked to execute other plugins, it gets a result. Whoever
// works for a client that has gone, or that has been told to try later, learns it by a signal.

import type { Duplex } from 'node:stream';
import type { Ending, Message, RequestMessage, Variables } from '../../cni-plugin/wire.ts';
import { encode, messageReader } from '../../cni-plugin/wire.ts';
import { asNetError, NetError } from '../../model/errors.ts';

export interface Connection {
  /** The client's one request. @throws NetError decoding; io when it goes without one */
  request(): Promise<RequestMessage>;
  /** Has the client execute a plugin of its CNI_PATH; one at a time. @throws NetError io when nobody waits any more */
  execute(plugin: string, changes: Variables, input: string): Promise<Ending>;
  /** Sends the result and resolves when the client has closed: whether it took the result. False at once if it can't. */
  answer(ending: Ending): Promise<boolean>;
  /** Closes without a result, as the end of this process would: the client asks again. */
  drop(): void;
  /** Aborts when nobody waits for the result any more. */
  readonly gone: AbortSignal;
}

/** A client that has the result ends at once; one that is stopped has it in its socket. */
const LINGER_MS = 5000;

const GONE = new NetError('io', 'the client has gone', { errno: 'EPIPE' });
const ANSWERED = new NetError('io', 'the client has its answer', { errno: 'EPIPE' });

export function connectionOf(socket: Duplex): Connection {
  const leaving = new AbortController();
  const { take, next, fail } = inbox();
  let answered = false;
  let refused = false;

  const leave = (error: NetError) => {
    if (leaving.signal.aborted) return;
    leaving.abort(error);
    fail(error);
  };
  socket.on('error', (error) => {
    // A client that closes with the result unread is told from one that has read it by this error alone.
    refused = true;
    leave(asNetError(error));
  });
  socket.on('close', () => leave(GONE));
  const read = messageReader();
  socket.on('data', (chunk: Buffer) => {
    try {
      for (const message of read(chunk)) take(message);
    } catch (error) {
      fail(asNetError(error));
      socket.pause();
    }
  });

  async function expect<K extends Message['kind']>(kind: K): Promise<Extract<Message, { kind: K }>> {
    const message = await next();
    if (message.kind === kind) return message as Extract<Message, { kind: K }>;
    throw new NetError('decoding', `expected a message ${kind}, got ${message.kind}`);
  }

  return {
    gone: leaving.signal,
    request: () => expect('request'),
    async execute(plugin, environment, input) {
      leaving.signal.throwIfAborted();
      socket.write(encode({ kind: 'execute', plugin, environment, input }));
      return expect('executed');
    },
    answer(ending) {
      if (answered || leaving.signal.aborted || socket.destroyed) return Promise.resolve(false);
      const bytes = encode({ kind: 'result', ...ending });
      answered = true;
      return new Promise((resolve) => {
        const timer = setTimeout(() => socket.destroy(), LINGER_MS);
        socket.once('close', () => {
          clearTimeout(timer);
          resolve(!refused && socket.writableFinished);
        });
        socket.end(bytes);
        socket.resume();
        leave(ANSWERED);
      });
    },
    drop: () => void socket.destroy(),
  };
}

/** Messages until somebody wants one. Two at once is one more than the protocol has. */
function inbox() {
  let unread: Message | undefined;
  let broken: NetError | undefined;
  let wanted: PromiseWithResolvers<Message> | undefined;
  return {
    take(message: Message): void {
      if (unread !== undefined) throw new NetError('decoding', `a message ${message.kind} too many`);
      if (wanted === undefined) unread = message;
      else wanted.resolve(message);
      wanted = undefined;
    },
    fail(error: NetError): void {
      broken ??= error;
      wanted?.reject(broken);
      wanted = undefined;
    },
    next(): Promise<Message> {
      const message = unread;
      unread = undefined;
      if (message !== undefined) return Promise.resolve(message);
      if (broken !== undefined) return Promise.reject(broken);
      if (wanted !== undefined) throw new NetError('internal', 'a client executes one plugin at a time');
      wanted = Promise.withResolvers();
      return wanted.promise;
    },
  };
}
