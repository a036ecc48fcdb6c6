import t from 'tap';
import { parseResolvConf } from '../../ipam/resolv-conf.ts';

t.test('nothing said gives nothing', async (t) => {
  for (const text of [
    '',
    '\n\n',
    '# nameserver 192.0.2.1\n;nameserver 192.0.2.2\n',
    'nameserver\nsearch\ndomain\n',
    'sortlist 1.2.3.4',
  ]) {
    t.strictSame(parseResolvConf(text), {});
  }
});

t.test('every keyword, in order, tabs and blanks', async (t) => {
  const text =
    ' nameserver 192.0.2.0\nnameserver\t192.0.2.1 ignored\r\ndomain old.net\ndomain example.net\n' +
    'search example.com example.org\nsearch a.b\noptions one two\noptions three';
  t.strictSame(parseResolvConf(text), {
    nameservers: ['192.0.2.0', '192.0.2.1'],
    domain: 'example.net',
    search: ['example.com', 'example.org', 'a.b'],
    options: ['one', 'two', 'three'],
  });
});
