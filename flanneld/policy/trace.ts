// Samples of what is dropped, with names: listens to the kernel's log while anybody wants to know.

import type { LoggedPacket } from '../../kernel/packet-log.ts';
import { type DroppedPacket, readDropped } from './dropped.ts';
import { LOG_BYTES, LOG_GROUP } from './table.ts';

/** Listens to a group until the returned function is called. @throws NetError kernel */
export type ListenToLog = (group: number, bytes: number, onPacket: (logged: LoggedPacket) => void) => () => void;

export interface Tracer {
  /** Tells of samples until the returned function is called. @throws NetError kernel, EBUSY when another program listens */
  follow(onDropped: (dropped: DroppedPacket) => void): () => void;
}

/** Listens to nothing before somebody follows. */
export function createTracer(listen: ListenToLog): Tracer {
  const followers = new Set<(dropped: DroppedPacket) => void>();
  let end = () => {};
  return {
    follow(onDropped) {
      if (followers.size === 0) {
        end = listen(LOG_GROUP, LOG_BYTES, ({ prefix, packet }) => {
          const dropped = readDropped(prefix, packet);
          if (dropped !== undefined) for (const tell of followers) tell(dropped);
        });
      }
      const own = (dropped: DroppedPacket) => onDropped(dropped);
      followers.add(own);
      return () => {
        if (followers.delete(own) && followers.size === 0) end();
      };
    },
  };
}
