import assert from 'node:assert/strict';
import { checkSourceAddress, sourceAddressAllows } from './source-address.ts';

const ALLOWED: readonly (readonly [string, string])[] = [
  ['10.1.2.3', '10.1.2.3'],
  ['10.1.2.3/32', '10.1.2.3'],
  ['10.0.0.0/8', '10.255.0.1'],
  ['10.1.2.0/31', '10.1.2.1'],
  ['0.0.0.0/0', '203.0.113.9'],
  ['255.255.255.255', '255.255.255.255'],
  ['192.0.2.1,10.0.0.0/8', '10.9.9.9'],
  ['10.1.2.3', '::ffff:10.1.2.3'],
  ['10.1.2.3', '::ffff:a01:203'],
  ['::1', '::1'],
  ['::1', '0:0:0:0:0:0:0:1'],
  ['2001:db8::/32', '2001:DB8:ffff::1'],
  ['fd00::/8', 'fdff::'],
  ['::/0', '2001:db8::1'],
  ['1::8', '1:0:0:0:0:0:0:8'],
  ['::10.1.2.3', '::a01:203'],
];

const REFUSED: readonly (readonly [string, string])[] = [
  ['10.1.2.3', '10.1.2.4'],
  ['10.0.0.0/8', '11.0.0.0'],
  ['10.1.2.0/31', '10.1.2.2'],
  ['0.0.0.0/0', '::1'],
  ['::/0', '10.1.2.3'],
  ['::/0', '::ffff:10.1.2.3'],
  ['2001:db8::/32', '2001:db9::1'],
  ['fe80::/10', 'fe80::1%eth0'],
  ['10.1.2.3', ''],
  ['10.1.2.3', 'localhost'],
  ['10.1.2.3', '10.1.2.3:22'],
];

const MALFORMED = [
  '',
  ',',
  '10.1.2.3,',
  ' 10.1.2.3',
  '10.1.2.3, 10.1.2.4',
  '10.1.2',
  '10.1.2.256',
  '010.1.2.3',
  '10.1.2.3/33',
  '10.1.2.3/',
  '10.1.2.0/+24',
  '10.1.2.0/024',
  '10.1.2.0/24/24',
  '10.1.2.3/24',
  '127.0.0.1/8',
  '2001:db8::1/32',
  '::/129',
  '::1%eth0',
  'example.org',
  '*',
  '!10.1.2.3',
  new Array(257).fill('10.1.2.3').join(','),
];

describe('sourceAddressAllows', () => {
  for (const [list, address] of ALLOWED) {
    it(`lets ${address} use ${list}`, () => assert.equal(sourceAddressAllows(list, address), true));
  }

  for (const [list, address] of REFUSED) {
    it(`keeps ${address || 'no address'} from ${list}`, () => {
      assert.equal(sourceAddressAllows(list, address), false);
    });
  }

  for (const list of MALFORMED) {
    it(`refuses the list ${JSON.stringify(list.slice(0, 40))}, wherever the peer is`, () => {
      const malformed = { code: 'SSH_INVALID', message: /malformed source-address/ };
      assert.throws(() => sourceAddressAllows(list, '10.1.2.3'), malformed);
      assert.throws(() => sourceAddressAllows(`10.1.2.3,${list}`, '10.1.2.3'), malformed);
      assert.throws(() => checkSourceAddress(list), malformed);
    });
  }
});

describe('checkSourceAddress', () => {
  it('takes every list that lets someone in', () => {
    for (const [list] of ALLOWED) assert.doesNotThrow(() => checkSourceAddress(list), list);
  });
});
