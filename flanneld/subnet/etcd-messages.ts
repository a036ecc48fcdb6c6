// The part of etcd's messages that is used here (etcd api/etcdserverpb/rpc.proto), under the protocol's own names, with
// enumerations as etcd3 spells them. 64-bit numbers are decimal text.

export interface KeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly create_revision: string;
  readonly mod_revision: string;
  /** Id of the etcd lease that the key expires with; "0" without. */
  readonly lease: string;
}

interface Header {
  /** Revision of the store when the answer was made. */
  readonly revision: string;
}

/** From `key` up to but not including `range_end`; the one key without it. */
export interface RangeRequest {
  readonly key: Buffer;
  readonly range_end?: Buffer;
  readonly keys_only?: boolean;
  readonly count_only?: boolean;
  /** Keys that were made before are left out. */
  readonly min_create_revision?: string;
}

export interface RangeResponse {
  readonly header: Header;
  readonly kvs: readonly KeyValue[];
  readonly count: string;
}

/** A condition on a key, "equal" to the number given; a key that isn't there has version 0. */
export type Compare = { readonly key: Buffer; readonly result: 'Equal' } & (
  | { readonly target: 'Version'; readonly version: number }
  | { readonly target: 'Mod'; readonly mod_revision: string }
);

export type RequestOp =
  | { readonly request_put: { readonly key: Buffer; readonly value: Buffer; readonly lease: string } }
  | { readonly request_delete_range: { readonly key: Buffer } }
  | { readonly request_range: RangeRequest };

export interface TxnResponse {
  readonly header: Header;
  readonly succeeded: boolean;
  readonly responses: readonly { readonly response_range?: RangeResponse }[];
}

export interface WatchRequest {
  readonly key: Buffer;
  /** Empty: `key` alone. */
  readonly range_end: Buffer;
  /** The first revision whose events are wanted. */
  readonly start_revision: string;
}

export interface WatchResponse {
  readonly header: Header;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly cancel_reason: string;
  /** Above 0: what was asked for is older than this, and gone. */
  readonly compact_revision: string;
  readonly events: readonly { readonly type: 'Put' | 'Delete'; readonly kv: KeyValue }[];
}

/** The key after the last that begins with the text. */
export function prefixEnd(text: string): Buffer {
  const end = Buffer.from(text);
  const last = end.length - 1;
  end[last] = (end[last] as number) + 1;
  return end;
}
