// What neighbours are told, byte by byte.

import fc from 'fast-check';
import t from 'tap';
import { announcementOf, checksum } from '../../kernel/announce.ts';
import { fromBytes, ip, mac, macOf } from '../../model/ip.ts';
import { seed } from '../support/seed.ts';

const MAC = mac('02:00:5e:10:00:01');

t.test('IPv4: an ARP request in which the asker asks for itself', async (t) => {
  t.equal(
    announcementOf(MAC, ip('10.5.1.2')).toString('hex'),
    ['ffffffffffff02005e1000010806', '0001080006040001', '02005e1000010a050102', '0000000000000a050102'].join(''),
  );
});

t.test('IPv6: an unsolicited advertisement to all nodes, which overrides', async (t) => {
  const frame = announcementOf(MAC, ip('fd00:5::2'));
  const address = 'fd000005000000000000000000000002';
  const all = 'ff020000000000000000000000000001';
  const text = frame.toString('hex');
  t.equal(text.slice(0, 28), '33330000000102005e10000186dd');
  t.equal(text.slice(28, 108), `6000000000203aff${address}${all}`);
  t.match(text.slice(108), new RegExp(`^8800....20000000${address}020102005e100001$`));
});

t.test('the checksum of every advertisement is right', async () => {
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  fc.assert(
    fc.property(bytes(6), bytes(16), (device, address) => {
      const frame = announcementOf(macOf(device), fromBytes(address));
      const [header, message] = [frame.subarray(14, 54), frame.subarray(54)];
      const pseudo = Buffer.concat([header.subarray(8), Buffer.from([0, 0, 0, message.length, 0, 0, 0, 58])]);
      return checksum(Buffer.concat([pseudo, message])) === 0;
    }),
    { seed },
  );
});
