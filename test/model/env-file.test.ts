// KEY=VALUE lines, as programs and people write them.

import t from 'tap';
import { parseEnvFile } from '../../model/env-file.ts';

t.test('values by name', async (t) => {
  const text = 'A=1\r\n B = two \nC="x y"\nD=\'z\'\n# no\nE=a=b\nF=\nG="half\nA=last\nexport\n';
  t.strictSame(Object.fromEntries(parseEnvFile(text)), {
    A: 'last',
    B: 'two',
    C: 'x y',
    D: 'z',
    E: 'a=b',
    F: '',
    G: '"half',
  });
  t.equal(parseEnvFile('').size, 0);
});
