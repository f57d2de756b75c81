// The page's token: handed over in the fragment or pasted, kept for this tab only, never sent anywhere but to the server.

/** What a token says of itself. `null`: it is no JWT. Nothing here is a proof; the server decides. */
export function claims(token) {
  try {
    const part = token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
    const bytes = Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0));
    const found = JSON.parse(new TextDecoder().decode(bytes));
    return typeof found === 'object' ? found : null;
  } catch {
    return null;
  }
}

/** Who holds a token and what it may not do, as its holder should see it; empty when it says neither. */
export function holder(token) {
  const said = claims(token ?? '');
  const name = typeof said?.name === 'string' ? said.name.trim() : '';
  return [name, isReadOnly(token) ? 'read-only' : ''].filter(Boolean).join(', ');
}

/** Whether the server will refuse every change with this token. */
export function isReadOnly(token) {
  return claims(token ?? '')?.read_only === true;
}

/** A token out of what a person pasted: alone, or as a whole link, header or line. */
export function pasted(text) {
  return text.match(/[\w-]+\.[\w-]+\.[\w-]+/)?.[0] ?? '';
}

/** Why the server will refuse this token, in a sentence; `null` when nothing can be said. */
export function complaint(token, role) {
  const said = claims(token);
  if (!said) return 'This is not a token: a token is three words of letters and digits, joined by dots.';
  if (said.role !== role) return `This is a token for the role ${said.role ?? '(none)'}. This page needs one for ${role}.`;
  if (said.exp * 1000 < Date.now()) return `This token ended ${new Date(said.exp * 1000).toLocaleString()}.`;
  return null;
}

/** Keeps the token of one page in this tab. */
export class TokenKeeper {
  #key;

  constructor(page) {
    this.#key = `hadir.token.${page}`;
  }

  get() {
    return sessionStorage.getItem(this.#key);
  }

  keep(token) {
    sessionStorage.setItem(this.#key, token);
  }

  forget() {
    sessionStorage.removeItem(this.#key);
  }

  /** Takes the token out of `#token=…`, and that out of the address bar and the history. */
  takeFromFragment() {
    const token = new URLSearchParams(location.hash.slice(1)).get('token');
    if (!token) return null;
    history.replaceState(null, '', location.pathname + location.search);
    this.keep(token);
    return token;
  }

  /** Hears of a link with another token that is opened in this same tab. */
  onFragment(took) {
    addEventListener('hashchange', () => {
      const token = this.takeFromFragment();
      if (token) took(token);
    });
  }
}
