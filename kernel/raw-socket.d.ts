// What is used of raw-socket, which comes without types.

declare module 'raw-socket' {
  interface RawSocket {
    on(event: 'message', listener: (packet: Buffer, source: string) => void): this;
    on(event: 'error', listener: (error: Error) => void): this;
    send(
      packet: Buffer,
      offset: number,
      length: number,
      address: string,
      done: (error: Error | null, bytes: number) => void,
    ): this;
    setOption(level: number, option: number, value: number): void;
    setOption(level: number, option: number, value: Buffer, length: number): void;
    close(): this;
  }

  const rawSocket: {
    readonly AddressFamily: { readonly IPv4: number; readonly IPv6: number };
    readonly Protocol: { readonly ICMP: number; readonly ICMPv6: number };
    createSocket(options: { addressFamily: number; protocol: number; bufferSize: number }): RawSocket;
    createChecksum(packet: Buffer): number;
    writeChecksum(packet: Buffer, offset: number, checksum: number): Buffer;
  };
  export default rawSocket;
}
