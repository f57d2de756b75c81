// What is measured beside k6's own metrics, and what must hold.

import { Counter, Trend } from 'k6/metrics';
import { PUSH_P99_MS } from './settings.js';

// From the server's `as_of` (whole milliseconds) to the client: run client and server on one clock.
export const push = new Trend('hadir_push_latency', true);
export const ack = new Trend('hadir_ack_latency', true);
export const pong = new Trend('hadir_pong_latency', true);
// From dialling to the first frame that says how things are.
export const first = new Trend('hadir_first_frame', true);
export const frames = new Counter('hadir_frames');
export const opened = new Counter('hadir_sockets_opened');
export const acks = new Counter('hadir_acks');
export const pongs = new Counter('hadir_pongs');
export const changes = new Counter('hadir_changes_seen');
// Sockets that ended though nobody wanted them to.
export const lost = new Counter('hadir_sockets_lost');
// An older frame after a newer one on the same socket.
export const disorder = new Counter('hadir_frames_out_of_order');
export const errors = new Counter('hadir_error_frames');

// What every scenario must keep. k6 exits with 99 when one is crossed.
export const ALWAYS = {
  checks: ['rate==1'],
  hadir_sockets_lost: ['count==0'],
  hadir_frames_out_of_order: ['count==0'],
  hadir_error_frames: ['count==0'],
};

export const PUSH = { hadir_changes_seen: ['count>0'], hadir_push_latency: [`p(99)<${PUSH_P99_MS}`] };
