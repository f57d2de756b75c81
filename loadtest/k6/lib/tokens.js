// Tokens (JWT, HS256), minted here from the server's secret, and ids that are the same at every run.

import crypto from 'k6/crypto';
import encoding from 'k6/encoding';
import { SECRET } from './settings.js';

const HEADER = encoding.b64encode(JSON.stringify({ alg: 'HS256', typ: 'JWT' }), 'rawurl');

export function token(role, sub, seconds = 6 * 3600) {
  const claims = { sub, role, exp: Math.floor(Date.now() / 1000) + seconds };
  const signed = `${HEADER}.${encoding.b64encode(JSON.stringify(claims), 'rawurl')}`;
  return `${signed}.${crypto.hmac('sha256', SECRET, signed, 'base64rawurl')}`;
}

const KINDS = { mitra: 'a', customer: 'b', dashboard: 'c', service: 'd' };

// The id of the nth subject of a role.
export function id(role, number) {
  return `10ad0006-0000-4000-8${KINDS[role]}00-${number.toString(16).padStart(12, '0')}`;
}

export const bearer = (role, number = 0) => ({ Authorization: `Bearer ${token(role, id(role, number))}` });
