// The changes under a prefix, from one watch stream. Events that arrive while the reader is busy come together in its
// next read, so that a burst is one snapshot.

import { GRPC, RpcError } from './etcd-errors.ts';
import type { KeyValue, WatchRequest, WatchResponse } from './etcd-messages.ts';

/** A stream of both directions, as the library makes it. */
export interface DuplexStream {
  write(message: object): void;
  end(): void;
  cancel(): void;
  on(event: 'data', listener: (message: never) => void): this;
  on(event: 'end', listener: () => void): this;
  on(event: 'error', listener: (error: Error) => void): this;
}

export interface WatchEvent {
  readonly type: 'put' | 'delete';
  readonly kv: KeyValue;
}

export interface EventStream {
  /**
   * The events since the last call; waits until there is one.
   * @throws RpcError OUT_OF_RANGE: read everything again; any other: the watch is over
   */
  next(): Promise<readonly WatchEvent[]>;
  /** Ends the stream; the reader gets the error after the events that came before it. */
  end(error: RpcError): void;
}

/** @param deadline milliseconds within which the server must confirm the watch */
export function openEventStream(
  open: () => Promise<DuplexStream>,
  request: WatchRequest,
  deadline: number,
): EventStream {
  const events: WatchEvent[] = [];
  let failure: RpcError | undefined;
  let stream: DuplexStream | undefined;
  let wake: () => void = () => {};
  const unconfirmed = setTimeout(
    () => end(new RpcError(GRPC.DEADLINE_EXCEEDED, 'the watch was not confirmed')),
    deadline,
  );

  function end(error: RpcError): void {
    clearTimeout(unconfirmed);
    failure ??= error;
    stream?.cancel();
    wake();
  }

  function receive(response: WatchResponse): void {
    const problem = problemOf(response, request);
    if (problem !== undefined) {
      end(problem);
      return;
    }
    if (response.created) clearTimeout(unconfirmed);
    events.push(
      ...response.events.map(({ type, kv }) => ({ type: type === 'Delete' ? 'delete' : 'put', kv }) as const),
    );
    wake();
  }

  function attach(opened: DuplexStream): void {
    stream = opened;
    stream.on('data', receive);
    stream.on('error', (error) => end(RpcError.from(error)));
    stream.on('end', () => end(new RpcError(GRPC.UNAVAILABLE, 'the watch stream ended')));
    if (failure === undefined) stream.write({ create_request: request });
    else stream.cancel();
  }

  open().then(attach, (error: Error) => end(RpcError.from(error)));

  return {
    async next() {
      while (events.length === 0) {
        if (failure !== undefined) throw failure;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      return events.splice(0);
    },
    end,
  };
}

/**
 * Why a response ends the watch: etcd cancelled it, compacted what was asked for, or tells another history than before.
 */
function problemOf(response: WatchResponse, request: WatchRequest): RpcError | undefined {
  if (Number(response.compact_revision) > 0) return new RpcError(GRPC.OUT_OF_RANGE, 'the revision was compacted');
  if (response.canceled) return new RpcError(GRPC.ABORTED, `the watch was cancelled: ${response.cancel_reason}`);
  if (response.created && BigInt(response.header.revision) + 1n < BigInt(request.start_revision)) {
    return new RpcError(GRPC.OUT_OF_RANGE, 'etcd is at an earlier revision than before');
  }
  return undefined;
}
