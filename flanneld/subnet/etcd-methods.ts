// The methods of etcd that are used here, with the messages of each as etcd's api/etcdserverpb/rpc.proto and
// api/mvccpb/kv.proto number their fields. etcd-messages.ts has them as types. Pure.

import { Repeated, Shape } from './etcd-protobuf.ts';

const HEADER = new Shape({ revision: [3, 'int64'] });

const KEY_VALUE = new Shape({
  key: [1, 'bytes'],
  create_revision: [2, 'int64'],
  mod_revision: [3, 'int64'],
  value: [5, 'bytes'],
  lease: [6, 'int64'],
});

const RANGE_REQUEST = new Shape({
  key: [1, 'bytes'],
  range_end: [2, 'bytes'],
  keys_only: [8, 'bool'],
  count_only: [9, 'bool'],
});

const RANGE_RESPONSE = new Shape({ header: [1, HEADER], kvs: [2, new Repeated(KEY_VALUE)], count: [4, 'int64'] });

const COMPARE = new Shape({
  result: [1, ['Equal']],
  target: [2, ['Version', 'Create', 'Mod']],
  key: [3, 'bytes'],
  version: [4, 'int64'],
  mod_revision: [6, 'int64'],
});

const REQUEST = new Shape({
  request_range: [1, RANGE_REQUEST],
  request_put: [2, new Shape({ key: [1, 'bytes'], value: [2, 'bytes'], lease: [3, 'int64'] })],
  request_delete_range: [3, new Shape({ key: [1, 'bytes'] })],
});

const TXN_RESPONSE = new Shape({
  header: [1, HEADER],
  succeeded: [2, 'bool'],
  responses: [3, new Repeated(new Shape({ response_range: [1, RANGE_RESPONSE] }))],
});

const WATCH_REQUEST = new Shape({
  create_request: [1, new Shape({ key: [1, 'bytes'], range_end: [2, 'bytes'], start_revision: [3, 'int64'] })],
});

const WATCH_RESPONSE = new Shape({
  header: [1, HEADER],
  created: [3, 'bool'],
  canceled: [4, 'bool'],
  compact_revision: [5, 'int64'],
  cancel_reason: [6, 'text'],
  events: [11, new Repeated(new Shape({ type: [1, ['Put', 'Delete']], kv: [2, KEY_VALUE] }))],
});

/** What a call is made of. */
export interface Method {
  /** "/etcdserverpb.KV/Range" */
  readonly path: string;
  readonly request: Shape;
  readonly response: Shape;
}

const method = (path: string, request: Shape, response: Shape): Method => ({
  path: `/etcdserverpb.${path}`,
  request,
  response,
});

const ID = new Shape({ ID: [1, 'int64'] });

export const METHODS = {
  range: method('KV/Range', RANGE_REQUEST, RANGE_RESPONSE),
  txn: method(
    'KV/Txn',
    new Shape({ compare: [1, new Repeated(COMPARE)], success: [2, new Repeated(REQUEST)] }),
    TXN_RESPONSE,
  ),
  watch: method('Watch/Watch', WATCH_REQUEST, WATCH_RESPONSE),
  grant: method('Lease/LeaseGrant', new Shape({ TTL: [1, 'int64'] }), new Shape({ ID: [2, 'int64'] })),
  keepAlive: method('Lease/LeaseKeepAlive', ID, new Shape({ TTL: [3, 'int64'] })),
  timeToLive: method('Lease/LeaseTimeToLive', ID, new Shape({ TTL: [3, 'int64'], grantedTTL: [4, 'int64'] })),
  authenticate: method(
    'Auth/Authenticate',
    new Shape({ name: [1, 'text'], password: [2, 'text'] }),
    new Shape({ token: [2, 'text'] }),
  ),
} as const;
