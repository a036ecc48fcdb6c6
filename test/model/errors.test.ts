// The one error type: what callers test, and what people read.

import t from 'tap';
import {
  asNetError,
  describe,
  ERRORS,
  type ErrorCode,
  type ErrorKind,
  hasCode,
  hasErrno,
  NetError,
} from '../../model/errors.ts';

const system = (code: string, syscall: string, path?: string) =>
  Object.assign(new Error(`${code}: something, ${syscall} '${path}'`), {
    code,
    syscall,
    ...(path !== undefined && { path }),
  });

t.test('every kind has a CNI code of its own meaning and a hint', async (t) => {
  for (const [code, kind] of Object.entries(ERRORS) as [string, ErrorKind][]) {
    t.match(code, /^[a-z]+(-[a-z]+)*$/, code);
    t.ok(
      Number.isInteger(kind.cni) && (kind.cni < 12 || kind.cni === 50 || (kind.cni >= 100 && kind.cni <= 999)),
      `${code}: ${kind.cni}`,
    );
    t.match(kind.hint, /^[a-z].*[^.\s]$/, `${code}: one clause`);
  }
});

t.test('what is worth trying again says so', async (t) => {
  const transient = (Object.keys(ERRORS) as ErrorCode[]).filter((code) => new NetError(code, 'x').transient);
  t.ok(
    transient.every((code) => ERRORS[code].cni === 11 || ERRORS[code].cni === 50),
    'by the codes that runtimes retry',
  );
  t.notOk(transient.includes('invalid-config'));
  t.ok(transient.includes('try-later') && transient.includes('not-ready') && transient.includes('etcd-unreachable'));
});

t.test('a NetError carries what is known', async (t) => {
  const cause = new Error('inner');
  const error = new NetError('kernel', 'add link eth0: EEXIST', {
    errno: 'EEXIST',
    subject: 'eth0',
    details: 'more',
    cause,
  });
  t.match(error, {
    name: 'NetError',
    code: 'kernel',
    message: 'add link eth0: EEXIST',
    errno: 'EEXIST',
    subject: 'eth0',
    details: 'more',
    cause,
  });
  t.ok(error instanceof Error);
  t.notOk('cause' in new NetError('io', 'x'), 'no cause is no cause, not an undefined one');
});

t.test('tests by code and errno', async (t) => {
  const error = new NetError('kernel', 'x', { errno: 'EEXIST' });
  t.ok(hasCode(error, 'kernel'));
  t.notOk(hasCode(error, 'io'));
  t.notOk(
    hasCode(Object.assign(new Error('x'), { code: 'kernel' }), 'kernel'),
    'another error with a code of that name',
  );
  t.ok(hasErrno(error, 'EEXIST'));
  t.notOk(hasErrno(error, 'ENOENT'));
  t.ok(hasErrno(system('ENOENT', 'open', '/x'), 'ENOENT'));
  t.notOk(hasErrno(new NetError('busy', 'x'), 'busy'), 'a code is no errno');
  for (const value of [undefined, null, 'ENOENT', { code: 'ENOENT' }]) t.notOk(hasErrno(value, 'ENOENT'));
});

t.test('anything thrown becomes a NetError', async (t) => {
  const known = new NetError('timeout', 'x');
  t.equal(asNetError(known), known);
  const failed = system('EACCES', 'open', '/run/x');
  t.match(asNetError(failed), {
    code: 'io',
    errno: 'EACCES',
    subject: '/run/x',
    message: 'open /run/x: EACCES',
    cause: failed,
  });
  t.match(asNetError(system('ECONNREFUSED', 'connect')), {
    code: 'io',
    errno: 'ECONNREFUSED',
    message: 'connect: ECONNREFUSED',
  });
  t.match(asNetError(new TypeError('x is not a function')), { code: 'internal', message: 'x is not a function' });
  t.match(
    asNetError(Object.assign(new Error('bad'), { code: 'ERR_X' })),
    { code: 'internal' },
    'a code without a system call',
  );
  t.match(asNetError('text'), { code: 'internal', message: 'text', cause: 'text' });
  t.match(asNetError(undefined), { code: 'internal', message: 'undefined' });
});

t.test('described in one line', async (t) => {
  const inner = new NetError('io', 'open /x: EACCES');
  const outer = new NetError('file-unreadable', 'certificate /x', { cause: inner });
  t.equal(describe(outer), 'certificate /x: open /x: EACCES');
  t.equal(
    describe(new Error('read /x: EACCES', { cause: new Error('EACCES') })),
    'read /x: EACCES',
    'a cause that adds nothing',
  );
  t.equal(
    describe(new NetError('io', 'open /x: EACCES', { cause: system('EACCES', 'open', '/x') })),
    'open /x: EACCES',
    'nor does the errno in words',
  );
  t.match(describe(new Error('read the list', { cause: system('EACCES', 'open', '/x') })), /^read the list: EACCES: /);
  t.equal(describe(new Error('a\n  b\r\n\tc')), 'a b c');
  t.equal(describe(new Error('a', { cause: 'because' })), 'a: because');
  t.equal(describe('just text'), 'just text');
  const circle = new Error('round');
  circle.cause = new Error('and round', { cause: circle });
  t.match(describe(circle), /^round: and round/, 'a circle of causes ends');
});
