package gtid_test

import (
	"fmt"

	"github.com/concordatdb/concordat/gtid"
)

func ExampleParseSet() {
	set, err := gtid.ParseSet("3E11FA47-71CA-11E1-9E33-C80AA9429562 : 6-9 : 1-5 : 23 : backup : 1-3")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(set)
	fmt.Println(set.Count(), "transactions")

	_, err = gtid.ParseSet("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:")
	fmt.Println(err)
	// Output:
	// 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9:23:backup:1-3
	// 13 transactions
	// malformed GTID set: at byte 41: expected a tag or a decimal number from 1 to 9223372036854775806, found the end
}

// A member that asks to come back may do so if the group has all that it has.
func ExampleSet_SubsetOf() {
	group, err := gtid.ParseSet("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-100")
	if err != nil {
		fmt.Println(err)
		return
	}
	member, err := gtid.ParseSet("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-80:101-102")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("may come back:", member.SubsetOf(group))
	fmt.Println("only it has:", member.Subtract(group))
	fmt.Println("it lacks:", group.Subtract(member))
	// Output:
	// may come back: false
	// only it has: 3e11fa47-71ca-11e1-9e33-c80aa9429562:101-102
	// it lacks: 3e11fa47-71ca-11e1-9e33-c80aa9429562:81-100
}
