package node

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/doubledutch-lock/doubledutch/internal/command"
	"github.com/doubledutch-lock/doubledutch/internal/locktable"
)

// fill sets every exported field below v, so that one that is forgotten on the way is noticed.
func fill(v reflect.Value, n *int64) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.String:
		v.SetString("text" + string(rune('a'+*n%26)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(*n)
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	default:
		panic(v.Kind().String())
	}
}

// An outcome reaches a client through another node as it is.
func TestOutcomesTravelWhole(t *testing.T) {
	var o locktable.Outcome
	var n int64
	fill(reflect.ValueOf(&o).Elem(), &n)
	data, err := proto.Marshal(toWire(&o))
	if err != nil {
		t.Fatal(err)
	}
	var w command.WireOutcome
	if err := proto.Unmarshal(data, &w); err != nil {
		t.Fatal(err)
	}
	if got := fromWire(&w); !reflect.DeepEqual(got, o) {
		t.Errorf("%+v\nbecame\n%+v", o, got)
	}
}
