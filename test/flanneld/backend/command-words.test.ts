// Commands as an operator writes them, split as sh would, without sh.

import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import t from 'tap';
import { type Command, type Environment, expand, parseCommand } from '../../../flanneld/backend/command-words.ts';
import { holds } from '../../model/holds.ts';
import { seed } from '../../support/seed.ts';

const ENVIRONMENT: Environment = { NETWORK: '10.0.0.0/16', SUBNET: '10.0.1.0/24', PUBLIC_IP: '192.0.2.1' };
const wordsOf = (text: string, environment = ENVIRONMENT) => expand(parseCommand(text) as Command, environment);
const problemOf = (text: string) => (parseCommand(text) as { problem: string }).problem;

t.test('words', async (t) => {
  const cases: Readonly<Record<string, readonly string[]>> = {
    'ip route add $SUBNET via $PUBLIC_IP': ['ip', 'route', 'add', '10.0.1.0/24', 'via', '192.0.2.1'],
    '  a\t b  ': ['a', 'b'],
    'sh -c \'echo "$SUBNET" | cat; read X\'': ['sh', '-c', 'echo "$SUBNET" | cat; read X'],
    '"a b"c\'d e\'f': ['a bcd ef'],
    '"$SUBNET" x"${PUBLIC_IP}"y': ['10.0.1.0/24', 'x192.0.2.1y'],
    'a "" \'\' b': ['a', '', '', 'b'],
    'a $IPV6SUBNET "$IPV6SUBNET" b': ['a', '', 'b'],
    'a\\ b \\$SUBNET "\\$SUBNET \\\\ \\a"': ['a b', '$SUBNET', '$SUBNET \\ \\a'],
    "--x='$SUBNET'": ['--x=$SUBNET'],
    'a#b *? [x] {y} ~': ['a#b', '*?', '[x]', '{y}', '~'],
  };
  for (const [text, words] of Object.entries(cases)) t.strictSame(wordsOf(text), words, text);
});

t.test('what only a shell could do is named', async (t) => {
  for (const text of [
    'a; b',
    'a | b',
    'a && b',
    'a > f',
    'a < f',
    'a `b`',
    'a $(b)',
    '"a `b`"',
    '(a)',
    'a\nb',
    'a $1',
  ]) {
    t.match(problemOf(text), /^"(.|\\n)" at position \d+ needs a shell.*sh -c/, text);
  }
  t.equal(problemOf('a $HOME'), 'there is no variable $HOME, only NETWORK, SUBNET, IPV6SUBNET, PUBLIC_IP, PUBLIC_IPV6');
  t.equal(problemOf("a 'b"), 'a single quote is not closed');
  t.equal(problemOf('a "b'), 'a double quote is not closed');
  t.equal(problemOf(' \t'), 'it is empty');
});

t.test('a value stays in its word, whatever is in it', async (t) => {
  holds(
    t,
    fc.property(fc.string(), (value) => {
      const words = wordsOf('a "$SUBNET" x$SUBNET', { SUBNET: value });
      return JSON.stringify(words) === JSON.stringify(['a', value, `x${value}`]);
    }),
  );
});

t.test('any text is split or refused, and quoted text comes through', async (t) => {
  holds(
    t,
    fc.property(fc.string({ unit: fc.constantFrom(...'ab $\'"\\;|&<>(){}`\t\n') }), (text) => {
      const parsed = parseCommand(text);
      return 'problem' in parsed ? parsed.problem !== '' : parsed.length > 0;
    }),
  );
  const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;
  holds(
    t,
    fc.property(fc.array(fc.string(), { minLength: 1 }), (words) => {
      return JSON.stringify(wordsOf(words.map(quoted).join(' '))) === JSON.stringify(words);
    }),
  );
});

t.test('sh splits what is accepted the same way', async (t) => {
  const piece = fc.constantFrom(
    'a',
    'b',
    ' ',
    '  ',
    '"',
    '"',
    "'",
    "'",
    '\\',
    '\\"',
    '$SUBNET',
    `\${PUBLIC_IP}`,
    '-',
    '=',
  );
  const texts = fc
    .sample(fc.array(piece, { minLength: 1, maxLength: 12 }), { seed, numRuns: 300 })
    .map((pieces) => pieces.join(''))
    .filter((text) => !('problem' in parseCommand(text)));
  const script = texts.map((text) => `set -- ${text}\nfor w in "$@"; do printf '%s\\001' "$w"; done; printf '\\002'\n`);
  const printed = execFileSync('sh', ['-f', '-c', script.join('')], { env: ENVIRONMENT, encoding: 'utf8' });
  const theirs = printed
    .split('\x02')
    .slice(0, -1)
    .map((words) => words.split('\x01').slice(0, -1));
  t.equal(theirs.length, texts.length);
  for (const [index, text] of texts.entries()) {
    if (JSON.stringify(theirs[index]) !== JSON.stringify(wordsOf(text)))
      t.strictSame(wordsOf(text), theirs[index], text);
  }
});
