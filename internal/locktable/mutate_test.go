package locktable

import (
	"encoding/binary"
	"math/rand"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/doubledutch-lock/doubledutch/internal/command"
)

// TestRestoreMutated changes one field of one record of a good snapshot, or the records' order, and seals it again: the
// table refuses it, or reads a sound state that it writes out in the same bytes. Never a panic.
func TestRestoreMutated(t *testing.T) {
	rounds := 20_000
	if testing.Short() {
		rounds = 2_000
	}
	rng := rand.New(rand.NewSource(testSeed(t)))
	var data []byte
	for i := range rounds {
		if i%20 == 0 {
			w := newWorld(rng, false)
			for range 20 + rng.Intn(200) {
				if err := w.step(); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			if data, err = snapshotBytes(w.t, 10); err != nil {
				t.Fatal(err)
			}
		}
		rs := records(data)
		rs = mutateRecords(rng, rs[:len(rs)-1])
		var body []byte
		for _, r := range rs {
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
			if err != nil {
				continue // no UTF-8
			}
			body = append(binary.AppendUvarint(body, uint64(len(b))), b...)
		}
		checkRestore(t, seal(body))
		if t.Failed() {
			t.Fatalf("round %d: %v", i, rs)
		}
	}
}

func mutateRecords(rng *rand.Rand, rs []*command.Record) []*command.Record {
	i := rng.Intn(len(rs))
	switch rng.Intn(12) {
	case 0:
		return append(rs[:i], rs[i+1:]...)
	case 1:
		j := rng.Intn(len(rs))
		rs[i], rs[j] = rs[j], rs[i]
	case 2:
		return append(rs[:i+1], rs[i:]...)
	default:
		mutate(rng, rs[i].ProtoReflect())
	}
	return rs
}

// mutate changes one field somewhere in m.
func mutate(rng *rand.Rand, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	if o := m.Descriptor().Oneofs(); o.Len() > 0 {
		if set := m.WhichOneof(o.Get(0)); set != nil {
			mutate(rng, m.Mutable(set).Message())
		}
		return
	}
	f := fields.Get(rng.Intn(fields.Len()))
	switch {
	case f.IsList():
		mutateList(rng, m.Mutable(f).List())
	case f.Kind() == protoreflect.MessageKind:
		mutate(rng, m.Mutable(f).Message())
	default:
		m.Set(f, otherValue(rng, f, m.Get(f)))
	}
}

func mutateList(rng *rand.Rand, l protoreflect.List) {
	n := l.Len()
	if n == 0 {
		l.AppendMutable()
		return
	}
	switch rng.Intn(4) {
	case 0:
		l.Truncate(n - 1)
	case 1:
		l.Append(protoreflect.ValueOfMessage(proto.Clone(l.Get(rng.Intn(n)).Message().Interface()).ProtoReflect()))
	case 2:
		i, j := rng.Intn(n), rng.Intn(n)
		a, b := proto.Clone(l.Get(i).Message().Interface()), proto.Clone(l.Get(j).Message().Interface())
		l.Set(i, protoreflect.ValueOfMessage(b.ProtoReflect()))
		l.Set(j, protoreflect.ValueOfMessage(a.ProtoReflect()))
	default:
		mutate(rng, l.Get(rng.Intn(n)).Message())
	}
}

func otherValue(rng *rand.Rand, f protoreflect.FieldDescriptor, v protoreflect.Value) protoreflect.Value {
	pickInt := func(x int64) int64 {
		return pick(rng, []int64{0, 1, -1, x + 1, x - 1, 1 << 40, -1 << 40, 1<<63 - 1, -1 << 63, 3})
	}
	switch f.Kind() {
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(pickInt(v.Int()))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(pickInt(int64(v.Uint()))))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(pickInt(int64(v.Uint()))))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rng.Intn(4)))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(pick(rng, []string{"", "a", "b", "zz", testKeys[rng.Intn(numKeys)], testSessions[rng.Intn(numSessions)], v.String() + "x"}))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{1, 2, 3})
	}
	return v
}
