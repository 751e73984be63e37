/* A PKCS#11 library for tests: SoftHSM with CKM_RSA_AES_KEY_WRAP added, made of what
   SoftHSM has. BEHIND is the path of SoftHSM's library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

typedef unsigned long ulong_t; /* CK_ULONG and all handles */

typedef struct { ulong_t type; void *value; ulong_t length; } attribute;
typedef struct { ulong_t mechanism; void *parameter; ulong_t length; } mechanism;
typedef struct { ulong_t hash, mgf, source; void *data; ulong_t length; } oaep;
typedef struct { ulong_t bits; oaep *oaep; } rsa_aes;

/* CK_FUNCTION_LIST: a version, then the functions in their fixed order. */
typedef struct { unsigned char version[2]; void *function[68]; } list;
enum { GET_FUNCTION_LIST = 3, GET_MECHANISM_LIST = 7, DESTROY_OBJECT = 22, GENERATE_KEY = 58, WRAP_KEY = 60 };

enum {
	OK = 0, PARAM_INVALID = 0x71, BUFFER_TOO_SMALL = 0x150,
	RSA_OAEP = 9, RSA_AES_KEY_WRAP = 0x1054, AES_KEY_GEN = 0x1080, AES_KEY_WRAP_PAD = 0x210A,
	TOKEN = 1, EXTRACTABLE = 0x162, SENSITIVE = 0x103, VALUE_LEN = 0x161, WRAP = 0x106,
};

typedef ulong_t (*get_mechanism_list)(ulong_t, ulong_t *, ulong_t *);
typedef ulong_t (*generate_key)(ulong_t, mechanism *, attribute *, ulong_t, ulong_t *);
typedef ulong_t (*wrap_key)(ulong_t, mechanism *, ulong_t, ulong_t, unsigned char *, ulong_t *);
typedef ulong_t (*destroy_object)(ulong_t, ulong_t);

static list *behind, ours;

static ulong_t mechanisms(ulong_t slot, ulong_t *out, ulong_t *n)
{
	ulong_t room = *n, rv;
	if (out && room == 0)
		return BUFFER_TOO_SMALL;
	if (out)
		*n = room - 1;
	rv = ((get_mechanism_list)behind->function[GET_MECHANISM_LIST])(slot, out, n);
	if (rv == OK && out)
		out[*n] = RSA_AES_KEY_WRAP;
	*n += 1;
	return rv;
}

static ulong_t wrap(ulong_t session, mechanism *m, ulong_t by, ulong_t key, unsigned char *out, ulong_t *n)
{
	wrap_key real = (wrap_key)behind->function[WRAP_KEY];
	rsa_aes *p = m->parameter;
	unsigned char no = 0, yes = 1;
	ulong_t size = 32, between, rv, head, tail;
	attribute template[] = {
		{ TOKEN, &no, 1 }, { VALUE_LEN, &size, sizeof size }, { SENSITIVE, &yes, 1 }, { EXTRACTABLE, &yes, 1 }, { WRAP, &yes, 1 },
	};
	mechanism generate = { AES_KEY_GEN, 0, 0 }, pad = { AES_KEY_WRAP_PAD, 0, 0 }, first;

	if (m->mechanism != RSA_AES_KEY_WRAP)
		return real(session, m, by, key, out, n);
	if (m->length != sizeof *p || p->bits != 256 || !p->oaep || p->oaep->source != 1 || p->oaep->data || p->oaep->length)
		return PARAM_INVALID;
	first = (mechanism){ RSA_OAEP, p->oaep, sizeof *p->oaep };
	rv = ((generate_key)behind->function[GENERATE_KEY])(session, &generate, template, sizeof template / sizeof *template, &between);
	if (rv != OK)
		return rv;
	head = tail = 0;
	rv = real(session, &first, by, between, 0, &head);
	if (rv == OK)
		rv = real(session, &pad, between, key, 0, &tail);
	if (rv == OK && out) {
		if (*n < head + tail) {
			rv = BUFFER_TOO_SMALL;
		} else {
			rv = real(session, &first, by, between, out, &head);
			if (rv == OK)
				rv = real(session, &pad, between, key, out + head, &tail);
		}
	}
	*n = head + tail;
	((destroy_object)behind->function[DESTROY_OBJECT])(session, between);
	return rv;
}

ulong_t C_GetFunctionList(list **out)
{
	ulong_t (*get)(list **);
	void *library = dlopen(BEHIND, RTLD_NOW | RTLD_LOCAL);
	if (!library || !(get = (ulong_t (*)(list **))dlsym(library, "C_GetFunctionList")))
		return 5;
	if (get(&behind) != OK)
		return 5;
	memcpy(&ours, behind, sizeof ours);
	ours.function[GET_FUNCTION_LIST] = C_GetFunctionList;
	ours.function[GET_MECHANISM_LIST] = mechanisms;
	ours.function[WRAP_KEY] = wrap;
	*out = &ours;
	return OK;
}
