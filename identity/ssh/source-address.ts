import { isIP } from 'node:net';
import { sshInvalid } from './wire.ts';

const MOST_BLOCKS = 256;
const PREFIX = /^(?:0|[1-9]\d{0,2})$/;

/** An address as the number that its bits are. */
interface Address {
  readonly bits: 32 | 128;
  readonly value: bigint;
}

/** The addresses that share their first `bits - hostBits` bits. */
interface Block {
  readonly network: Address;
  readonly hostBits: bigint;
}

/**
 * Whether a certificate's `source-address` lets this peer use it.
 * @param list addresses and CIDR blocks, commas between them
 * @param address the peer's; one of IPv4 within IPv6 is the IPv4 address
 * @throws Fault SSH_INVALID if the list is malformed
 */
export function sourceAddressAllows(list: string, address: string): boolean {
  const blocks = parseList(list);
  const peer = parseAddress(address);
  return peer !== undefined && blocks.some((block) => contains(block, unmapped(peer)));
}

/** @throws Fault SSH_INVALID if sshd would refuse the list, as it does for host bits that are set */
export function checkSourceAddress(list: string): void {
  parseList(list);
}

function parseList(list: string): Block[] {
  const blocks = list.split(',');
  if (blocks.length > MOST_BLOCKS) throw malformed();
  return blocks.map(parseBlock);
}

function parseBlock(text: string): Block {
  const [address = '', prefix, ...more] = text.split('/');
  const network = parseAddress(address);
  if (network === undefined || more.length > 0) throw malformed();
  const length = prefix === undefined ? network.bits : prefixLength(prefix);
  if (length > network.bits) throw malformed();
  const hostBits = BigInt(network.bits - length);
  if (network.value % (1n << hostBits) !== 0n) throw malformed();
  return { network, hostBits };
}

function contains({ network, hostBits }: Block, { bits, value }: Address): boolean {
  return bits === network.bits && value >> hostBits === network.value >> hostBits;
}

function prefixLength(text: string): number {
  if (!PREFIX.test(text)) throw malformed();
  return Number(text);
}

/** Undefined for what is no address, and for one with a zone (`fe80::1%eth0`). */
function parseAddress(text: string): Address | undefined {
  const version = isIP(text);
  if (version === 0 || text.includes('%')) return undefined;
  return version === 4 ? { bits: 32, value: ofIpv4(text) } : { bits: 128, value: ofIpv6(text) };
}

function unmapped(address: Address): Address {
  const mapped = address.bits === 128 && address.value >> 32n === 0xffffn;
  return mapped ? { bits: 32, value: address.value & 0xffff_ffffn } : address;
}

function ofIpv4(text: string): bigint {
  return text.split('.').reduce((value, octet) => (value << 8n) | BigInt(octet), 0n);
}

function ofIpv6(text: string): bigint {
  const [head = '', tail] = text.split('::');
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = new Array<bigint>(8 - before.length - after.length).fill(0n);
  return [...before, ...zeros, ...after].reduce((value, group) => (value << 16n) | group, 0n);
}

function groups(text: string): bigint[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [BigInt(`0x${group}`)];
    const value = ofIpv4(group);
    return [value >> 16n, value & 0xffffn];
  });
}

function malformed(): Error {
  return sshInvalid('SSH certificate: malformed source-address');
}
